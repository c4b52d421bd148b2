"""WikiGPT: turn a wiki dump into a small ChatGPT of your own."""

__version__ = "0.1.0"
