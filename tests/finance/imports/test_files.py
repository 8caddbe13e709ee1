"""Reading lines: what is refused, and what a strange file cannot do."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from finance.imports import files, rows
from finance.imports.files import COLUMNS, Kind, UnusableFile
from finance.imports.reasons import LineRefused, Reason, explain
from tests.finance.imports import marketplace

SELLERS = ",".join(COLUMNS["sellers"]).encode()
ORDERS = ",".join(COLUMNS["orders"]).encode()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path, kind: Kind = "sellers") -> list[tuple[int, list[str] | Reason]]:
    source = files.open_source(kind, path)
    found: list[tuple[int, list[str] | Reason]] = []
    for number, raw in files.lines(source):
        try:
            found.append((number, list(files.fields(source, raw))))
        except LineRefused as error:
            found.append((number, error.reason))
    return found


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,b,c", Reason.WRONG_COLUMN_COUNT),
        (b"a,b,c,d,e", Reason.WRONG_COLUMN_COUNT),
        (b"a,b,\xff,d", Reason.NOT_UTF8),
        (b"a,b,\x00,d", Reason.CONTROL_CHARACTER),
        (b"a,b,\x1b[31m,d", Reason.CONTROL_CHARACTER),
        (b'a,b,"c,d', Reason.BAD_QUOTES),
        (b'a,b,"c"x,d', Reason.BAD_QUOTES),
        (b"a,b," + b"x" * files.MAX_LINE_BYTES + b",d", Reason.LINE_TOO_LONG),
    ],
)
def test_bad_line_is_refused_and_the_next_one_is_read(tmp_path: Path, line: bytes, reason: Reason) -> None:
    path = written(tmp_path / "f.csv", SELLERS + b"\n" + line + b"\nw,x,y,z\n")

    assert read(path) == [(2, reason), (3, ["w", "x", "y", "z"])]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"seller_id,seller_zip_code_prefix,seller_city\n",
        SELLERS + b",more\n",
        SELLERS.replace(b"seller_id", b"seller_city") + b"\n",
        b"\xff\xfe" + SELLERS + b"\n",
        b'"' + SELLERS + b"\n",
        b"a,b,c,d\n",
    ],
)
def test_file_without_its_columns_is_unusable(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "f.csv", content)

    with pytest.raises(UnusableFile, match="seller_zip_code_prefix"):
        files.open_source("sellers", path)


def test_missing_file_and_folder_are_unusable(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UnusableFile, match="orders"):
            files.open_source("orders", path)


def test_unreadable_file_is_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path / "f.csv", SELLERS + b"\n")
    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(UnusableFile, match="Permission denied"):
        files.open_source("sellers", path)


@pytest.mark.parametrize(
    "content",
    [
        SELLERS + b"\r\na,b,c,d\r\n\r\nw,x,y,z",
        b"\xef\xbb\xbf" + SELLERS + b"\na,b,c,d\n\nw,x,y,z\n",
        b'"seller_id","seller_zip_code_prefix","seller_city","seller_state"\na,b,"c",d\n\n"w","x",y,z\n',
    ],
)
def test_other_line_ends_marks_and_quotes_are_understood(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "f.csv", content)

    assert read(path) == [(2, ["a", "b", "c", "d"]), (4, ["w", "x", "y", "z"])]


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    header = b"seller_state,seller_city,seller_id,seller_zip_code_prefix"
    path = written(tmp_path / "f.csv", header + b'\nSP,"rio, brasil",s1,01\n')

    assert read(path) == [(2, ["s1", "01", "rio, brasil", "SP"])]


def test_endless_line_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    with path.open("wb") as stream:
        stream.write(SELLERS + b"\n")
        for _ in range(32):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\nw,x,y,z\n")
    tracemalloc.start()

    found = read(path)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(2, Reason.LINE_TOO_LONG), (3, ["w", "x", "y", "z"])]
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("kind", "line", "reason"),
    [
        ("items", marketplace.item("o1", price="1e2"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="-1.00"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="+1.00"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="1.005"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="1.000,00"), Reason.WRONG_COLUMN_COUNT),
        ("items", marketplace.item("o1", price="NaN"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="１２"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price=""), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price=" 1.00"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="0.00"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="1000000000.01"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", price="9" * 40), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", freight="x"), Reason.BAD_AMOUNT),
        ("items", marketplace.item("o1", 0), Reason.BAD_NUMBER),
        ("items", marketplace.item("o1", 1000), Reason.BAD_NUMBER),
        ("items", marketplace.item("", 1), Reason.BAD_IDENTIFIER),
        ("items", marketplace.item("o 1", 1), Reason.BAD_IDENTIFIER),
        ("items", marketplace.item("=o1", 1), Reason.BAD_IDENTIFIER),
        ("items", marketplace.item("o1", 1, "s" * 65), Reason.BAD_IDENTIFIER),
        ("items", marketplace.item("o1").replace("2018", "20x8"), Reason.BAD_TIMESTAMP),
        ("orders", marketplace.order("o1", "sold"), Reason.UNKNOWN_STATUS),
        ("orders", marketplace.order("o1", "DELIVERED"), Reason.UNKNOWN_STATUS),
        ("orders", marketplace.order("o1", approved="2018-02-30 10:00:00"), Reason.BAD_TIMESTAMP),
        ("orders", marketplace.order("o1", approved="2018-02-03T10:00:00Z"), Reason.BAD_TIMESTAMP),
        ("payments", marketplace.payment("o1", 0), Reason.BAD_NUMBER),
        ("payments", marketplace.payment("o1", method="Credit Card"), Reason.BAD_IDENTIFIER),
        ("payments", marketplace.payment("o1", amount="1,5"), Reason.WRONG_COLUMN_COUNT),
        ("sellers", marketplace.seller("s1", "x" * 101), Reason.BAD_TEXT),
    ],
)
def test_line_with_a_bad_value_is_refused(tmp_path: Path, kind: Kind, line: str, reason: Reason) -> None:
    header = ",".join(COLUMNS[kind])
    source = files.open_source(kind, written(tmp_path / "f.csv", f"{header}\n{line}\n".encode()))
    ((_, raw),) = files.lines(source)

    with pytest.raises(LineRefused) as refusal:
        rows.validator(kind, "BRL")(files.fields(source, raw))

    assert refusal.value.reason == reason
    assert refusal.value.detail in explain(reason, refusal.value.detail)


def test_good_lines_become_rows() -> None:
    order = marketplace.order("o1", approved="").split(",")
    item = marketplace.item("o1", 3, "s1", "99.9", "0").split(",")
    payment = marketplace.payment("o1", 2, "0.05").split(",")

    assert rows.order_row(order) == ("o1", "buyer1", "delivered", marketplace.MOMENT, None, None, None)
    assert rows.item_row(item, "BRL") == ("o1", 3, "product3", "s1", 9_990, 0)
    assert rows.payment_row(payment, "BRL") == ("o1", 2, "credit_card", 1, 5)


def test_amounts_follow_the_currency() -> None:
    item = marketplace.item("o1", price="100", freight="0").split(",")

    assert rows.item_row(item, "JPY")[4:] == (100, 0)
    assert rows.item_row(item, "KWD")[4:] == (100_000, 0)
