"""Writers of JSON text that are made once: `json.dumps` makes an encoder anew for nearly every call.

For what each request writes several times; elsewhere `json.dumps` is as good.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any


def writer(
    *, ensure_ascii: bool = True, separators: tuple[str, str] = (", ", ": "), sort_keys: bool = False
) -> Callable[[Any], str]:
    """Return what writes the text that `json.dumps` writes with these arguments.

    Members are texts, numbers, lists, tuples and mappings with texts as keys; what contains itself is a
    RecursionError, anything else raises TypeError.
    """
    kept: Any = json.JSONEncoder(
        ensure_ascii=ensure_ascii, check_circular=False, separators=separators, sort_keys=sort_keys
    )
    make: Any = encoder.c_make_encoder  # type: ignore[attr-defined]  # not in the stubs
    if make is None:  # an interpreter without the encoder in C
        written: Callable[[Any], str] = kept.encode
        return written
    text = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    item, key = separators
    # In the order of `JSONEncoder.iterencode`: markers, default, encoder, indent, separators, ...
    chunks = make(None, kept.default, text, None, key, item, sort_keys, False, True)
    return lambda value: "".join(chunks(value, 0))
