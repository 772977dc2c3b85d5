"""Files of another encoding: told from damage, and named rightly or not at all."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from batchsent.errors import WrongSettingError
from batchsent.records import Shard
from batchsent.stages.reader.encoding_check import SAMPLE_BYTES, require_encoding
from batchsent.stages.reader.shards import InspectRequest, inspect_shard

CHINESE = ["这个水壶非常好,我很喜欢", "电影很糟糕,再也不买了", "酒店很安静,服务员热情", "质量一般,物流太慢", "ok, 不错"]
JAPANESE = [
    "この映画はとても良かったです",
    "ホテルは静かで、サービスも最高でした",
    "二度と買いません",
    "カメラの画質が悪い",
]
GERMAN = [
    "Das ist schön und gut",
    "Über die Größe kann man streiten",
    "Ärgerlich: nach drei Tagen kaputt",
    "nicht für mich",
]
FRENCH = [
    "très bon café",
    "Livraison rapide mais qualité médiocre, très déçu",
    "Hôtel calme, personnel agréable",
    "good",
]
ENGLISH = [
    "It\u2019s great \u2014 would buy again",
    "“Not good”… I hate it",
    "the film isn\u2019t bad",
    "costs €5, don\u2019t buy",
    "fine",
]
PLAIN = ["a good film", "it broke after a day", "would buy again", "never again"]
FAMILIES = {
    "gb18030": (CHINESE, {"gb18030"}),
    "shift_jis": (JAPANESE, {"cp932", "shift-jis"}),
    "latin-1": (GERMAN + FRENCH, {"cp1252", "latin-1"}),
    "cp1252": (ENGLISH, {"cp1252"}),
    "utf-16-le": (PLAIN + GERMAN, {"utf-16-le"}),
    "utf-16-be": (CHINESE + PLAIN, {"utf-16-be"}),
}


def dump(texts: list[str], count: int) -> str:
    """A CSV of so many records of one to four texts."""
    chooser = random.Random(count)
    records = (f'{i},"{". ".join(chooser.choices(texts, k=chooser.randint(1, 4)))}"\r\n' for i in range(count))
    return "id,text\r\n" + "".join(records)


def shard_of(folder: Path, content: bytes, name: str = "reviews.csv") -> Shard:
    path = folder / name
    path.write_bytes(content)
    return Shard(name, str(path), ".csv", ".gz" if name.endswith(".gz") else "", len(content))


@pytest.mark.parametrize("count", [24, 40, 300, 20_000])
@pytest.mark.parametrize("encoding", FAMILIES)
def test_the_guess_is_right(tmp_path: Path, encoding: str, count: int) -> None:
    texts, expected = FAMILIES[encoding]
    shard = shard_of(tmp_path, gzip.compress(dump(texts, count).encode(encoding), 1), "reviews.csv.gz")
    with pytest.raises(WrongSettingError, match=r"reviews\.csv\.gz is not UTF-8: ") as raised:
        require_encoding(shard, "utf-8")
    guess = str(raised.value).rpartition("pass --encoding ")[2]
    assert guess in expected
    assert f"(it looks like {guess.upper()}); expected text in utf-8;" in str(raised.value)
    require_encoding(shard, guess)


def test_the_whole_line(tmp_path: Path) -> None:
    content = dump(CHINESE, 30).encode("gb18030") + "31,caf\u00e9\r\n".encode() * 3
    inspection = inspect_shard(InspectRequest(shard_of(tmp_path, content), "text", (), "utf-8", None))
    assert inspection.is_setting_wrong
    assert inspection.error == (
        "reviews.csv is not UTF-8: 30 of 33 lines with other characters than ASCII do not decode (it looks like "
        "GB18030); expected text in utf-8; pass --encoding gb18030"
    )


def test_utf8_where_something_else_was_asked_for(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, dump(CHINESE, 300).encode())
    for asked in ("ascii", "shift_jis"):
        with pytest.raises(WrongSettingError, match=rf"is not {asked.upper()}.*pass --encoding utf-8"):
            require_encoding(shard, asked)
    with pytest.raises(WrongSettingError, match="is not utf-16;"):  # it asks for a byte order mark
        require_encoding(shard, "utf-16")


def test_too_little_text_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(WrongSettingError, match=r"\(no guess what it is\)"):
        require_encoding(shard_of(tmp_path, dump(CHINESE, 4).encode("gb18030")), "utf-8")


def test_what_looks_like_nothing_is_not_guessed(tmp_path: Path) -> None:
    noise = random.Random(3)
    content = b"id,text\n" + b"".join(bytes(noise.choices(range(0x80, 0x100), k=90)) + b"\n" for _ in range(50))
    with pytest.raises(WrongSettingError, match=r"\(no guess what it is\).*pass --encoding NAME"):
        require_encoding(shard_of(tmp_path, content), "utf-8")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"id,text\n",
        b"id,text\n1,caf\xe9\n2,good\n",
        b"id,text\n1,good\n" + b"2,caf\xe9\n" * 9 + b"3,bad\n" * 9,
        b"id,text\n" + b"2,caf\xe9\n" * 100 + "3,caf\u00e9\n".encode() * 100,
        b"id,text\n" + b"1,a\0b\n" * 100,
        b"\xef\xbb\xbf" + dump(CHINESE, 100).encode(),
    ],
    ids=["empty", "header", "one bad row", "few bad rows", "half", "NUL in every row", "byte order mark"],
)
def test_damage_is_not_another_encoding(tmp_path: Path, content: bytes) -> None:
    require_encoding(shard_of(tmp_path, content), "utf-8")


@pytest.mark.parametrize("shift", range(4))
def test_a_sample_that_ends_within_a_character(tmp_path: Path, shift: int) -> None:
    content = b"a" * shift + ("爱" * SAMPLE_BYTES).encode()
    require_encoding(shard_of(tmp_path, content), "utf-8")
    content = b"text\n" * 7 + b"a" * shift + ("爱" * SAMPLE_BYTES).encode()
    require_encoding(shard_of(tmp_path, content), "utf-8")


def test_no_text_of_a_review_in_the_message(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, dump(ENGLISH, 300).encode("cp1252"))
    with pytest.raises(WrongSettingError) as raised:
        require_encoding(shard, "utf-8")
    assert "great" not in str(raised.value)
