"""For writers of the sample wiki's data.

python -m wikigpt.sample check [KIND]            problems in tables and kind files
python -m wikigpt.sample show KIND/KEY | TITLE   an article in both languages (--prose: sentences only)
python -m wikigpt.sample write FOLDER            the two dumps
"""

import sys
from pathlib import Path

from wikigpt.sample.check import find, problems, prose, summary
from wikigpt.sample.compose import Wiki
from wikigpt.sample.dump import write_dumps
from wikigpt.sample.facts import read_kinds


def main() -> int:
    match sys.argv[1:]:
        case ["check", *kind]:
            wiki = Wiki(read_kinds())
            found = list(problems(wiki, *kind))
            print("\n".join([*found, *summary(wiki), f"{len(found)} problems"]))
            return bool(found)
        case ["show", name, *options]:
            for writer in find(Wiki(read_kinds()), name):
                print(f"\n=== {writer.entry.id} [{writer.lang}] {writer.title}")
                print(prose(writer) if "--prose" in options else writer.article().wikitext)
        case ["write", folder]:
            print("\n".join(map(str, write_dumps(Path(folder)))))
        case _:
            print(__doc__)
            return 2
    return 0


sys.exit(main())
