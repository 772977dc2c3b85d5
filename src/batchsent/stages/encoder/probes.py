"""Does tokenizing word by word give what the library gives? Asked of every tokenizer before it is relied upon.

The rules in ``cuts`` were argued for components as they are in tokenizers 0.23; a later release may change one.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import pyarrow as pa

from batchsent.stages.encoder.words import WordEncoder

ODD_TEXTS = (
    "",
    " ",
    "It's a film; \"good\", they'd say (I'm not so sure)... <br /><br />10/10!!! e-mail@example.com, www.x.y/z?a=1&b=2",
    "two  spaces, three   ones \t tab\n\nlines\r\n  and blanks at the end  ",
    " ".join(string.printable[:94]) + " " + string.printable[:94],
    # Blanks and what looks like one.
    "no\u00a0break\u2003em\u3000wide\u2028line\u0085next\x0bvertical\x0cform\x1cfile\u1680ogham \u180e \u200b \ufeff .",
    # Control, format, private and unassigned characters.
    "nul\x00in a word, \x00 alone, \x7f, \x1b[0m, soft\u00adhyphen \u200e \ufffd \U000e0041 \U0010ffff \u0378 \ue000 x",
    # Combining marks: in order and not, behind blanks and punctuation; singletons; Hangul.
    "cafe\u0301 cafe\u0301\u0323 .\u0301 a\u0323\u0301 \u0301 \u0301x =\u0338 caf\u00e9, e\u0301. \u212b A\u030a",
    "\uac00\u11a8 \u1100\u1161 \ud55c\uad6d\uc5b4",
    # Case that depends on the language or the neighbours; ligatures, full and half width.
    "\u0130stanbul I\u0131i \u1e9e \u00df \u039f\u03a3 \u039f\u03a3. \u039f\u03a3'x \u03c3\u03c2 \u01c5",
    "\ufb01ne \ufb03 \u00bd \u2460 \uff21\uff42\uff03 \uff76\uff9e \u210c \u2122",
    # Ideographs, the ends of their blocks, and what stands next to them.
    "\u5f88\u597d\uff0c\u7269\u6d41\u5feb\u3002\u4e2d\u6587abc\u4e2d\u6587 123\u4ef6",
    "a\u4dff\u4dc0b\u3400\u4dbf\u4e00\u9fffa\ua000a",
    "\uf900\U00020000 \u4e2d\u0301\u6587 \u5f88\u3099 \u98df\u3079\u308b \u4e2d\ufe00",
    "\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea ok\U0001f600ok",
    "\u00bf\u00a1 \u2014 it\u2019s \u201cq\u201d \u20ac5",
    # From right to left; letters that need marks; characters that join what follows them.
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u064b \u0600 \u0600x \u202eabc\u202c \u0d4e \U000110bd1",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940",
    # What added tokens look like.
    "[SEP] [CLS]x [sep] [ SEP] [\x00SEP] <mask> x<mask>y </s> <s>a \uff1c\uff53\uff1e <|endoftext|>",
    "##ing \u2581a _b \u0120c",
    "x" * 99 + " " + "x" * 101 + " " + "supercalifragilistic" * 8 + "\u4e2d" * 40,
)
_SMALL_ROOM, _LARGE_ROOM = 5, 1 << 12
"""A text is read in several windows, or in one."""


def agrees(make: Callable[[int], WordEncoder], whole: Sequence[Sequence[int]], *, from_end: bool) -> bool:
    """Are the ids of ODD_TEXTS those of ``whole``, as the library has them? ``make`` takes the encoder's room."""
    for room in (_SMALL_ROOM, _LARGE_ROOM):
        kept = slice(-room, None) if from_end else slice(room)
        for found, expected in zip(make(room).encode(pa.array(ODD_TEXTS)), whole, strict=True):
            if found is None:
                continue
            if found[kept].tolist() != expected[kept] or (len(found) > room) != (len(expected) > room):
                return False
    return True
