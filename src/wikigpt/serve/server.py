"""Running the application: one process, one model, until Ctrl-C."""

import socket
from contextlib import suppress

import uvicorn

from wikigpt.chat.session import ChatSession
from wikigpt.errors import UserError
from wikigpt.serve.app import LOCAL, create_app


def serve(opened: ChatSession, name: str, *, host: str, port: int, api_key: str) -> None:
    """Answer requests at `host` and `port` until interrupted.

    Args:
        opened: a conversation with the model, whose engine, index and settings every request's conversation has.
        name: what the model is called.

    Raises:
        UserError: the address is taken or not this machine's, or it is open to others and there is no key.
    """
    if host not in LOCAL and not api_key:
        raise UserError(f"others can reach {host}, so it needs a key: --api-key, or WIKIGPT_API_KEY.")
    try:
        taken = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port} ({error.strerror or error}); give another --port.") from None

    def session() -> ChatSession:
        if opened.index is not None:
            opened.index = opened.index.renewed()
        return ChatSession(
            opened.engine,
            opened.index,
            system=opened.system,
            settings=opened.settings.model_copy(),
            relations=opened.relations,
        )

    address = f"[{host}]" if ":" in host else host
    print(f"{name} is served at http://{address}:{taken.getsockname()[1]}/v1; Ctrl-C ends it.", flush=True)
    app = create_app(session, name, host=host, api_key=api_key)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    with suppress(KeyboardInterrupt):
        server.run(sockets=[taken])
