"""A model for a task: prompts that ask for it, examples that show it.

Importing this package is cheap: its modules are loaded when something of theirs is first asked for.
"""

from typing import TYPE_CHECKING

from wikigpt.lazy import lazy

if TYPE_CHECKING:
    from wikigpt.adapt.examples import Row, Similar, read_rows
    from wikigpt.adapt.prompts import TASKS, Template, load_templates
    from wikigpt.adapt.search import search_prompts
    from wikigpt.adapt.tasks import Result, TaskRunner, export_conversations

__all__ = [
    "TASKS",
    "Result",
    "Row",
    "Similar",
    "TaskRunner",
    "Template",
    "export_conversations",
    "load_templates",
    "read_rows",
    "search_prompts",
]

_HOMES = {
    "Row": "examples",
    "Similar": "examples",
    "read_rows": "examples",
    "TASKS": "prompts",
    "Template": "prompts",
    "load_templates": "prompts",
    "search_prompts": "search",
    "Result": "tasks",
    "TaskRunner": "tasks",
    "export_conversations": "tasks",
}

__getattr__ = lazy(__name__, _HOMES)
