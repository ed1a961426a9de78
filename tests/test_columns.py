"""Tables of text: which are seen as such, which column is learned from, which are refused."""

import pytest

from charrnn.config import CorpusConfig
from charrnn.corpus import load_corpus
from charrnn.errors import CorpusError
from charrnn.splits import SPLITS


def table_of(path, rows, delimiter=","):
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n", encoding="utf-8")
    return path


NAMES = [("rank", "name", "count"), *((str(n), f"Name{chr(97 + n)}", "7") for n in range(12))]


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.txt", "\t"), ("a.txt", ",")],
)
def test_a_table_of_names_is_seen(tmp_path, name, delimiter, caplog):
    path = table_of(tmp_path / name, NAMES, delimiter)
    with caplog.at_level("INFO", logger="charrnn"):
        corpus = load_corpus([path], CorpusConfig())
    assert sorted(corpus.names) == sorted(f"name{chr(97 + n)}" for n in range(12))
    assert "column 2 ('name') of a table of 3, 12 rows: a list of names" in caplog.text


def test_a_column_is_chosen_by_name_or_number(tmp_path):
    rows = [("id", "kind", "body"), *((str(n), f"kind{chr(97 + n)}", "x") for n in range(9))]
    path = table_of(tmp_path / "a.csv", rows)
    by_name = load_corpus([path], CorpusConfig(column="kind"))
    by_number = load_corpus([path], CorpusConfig(column="2"))
    assert by_name.names == by_number.names
    with pytest.raises(CorpusError, match=r"column must be one of its 3, .*2 'kind'.*got 'colour'"):
        load_corpus([path], CorpusConfig(column="colour"))
    with pytest.raises(CorpusError, match="got '4'"):
        load_corpus([path], CorpusConfig(column="4"))


def test_comments_with_breaks_and_quotation_marks_are_texts_of_their_own(tmp_path):
    path = tmp_path / "c.csv"
    body = "".join(f'{n},"He said ""no"", twice.\n\nThen word{n % 3} left"\r\n' for n in range(30))
    path.write_bytes(b"\xef\xbb\xbfid,body\r\n" + body.encode())
    corpus = load_corpus([path], CorpusConfig(unit="word"))
    found = {s for split in SPLITS for s in corpus.sequences[split]}
    assert found == {'He said "no", twice.', *(f"Then word{k} left" for k in range(3))}
    assert corpus.mended["byte order marks"] == 1


def test_an_open_quotation_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('name\nx\n"y\nz\n')
    with pytest.raises(CorpusError, match="the row that begins in line 3"):
        load_corpus([path], CorpusConfig())


def test_names_with_commas_are_a_list(tmp_path, caplog):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"Smith{chr(97 + n)}, John\n" for n in range(20)))
    with caplog.at_level("INFO", logger="charrnn"):
        corpus = load_corpus([path], CorpusConfig())
    assert len(corpus.names) == 20
    assert "taken for a list of names, one a line (to say otherwise: --kind text)" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no text in it"),
        (b"name\n", "no text in it"),
        (b"a\0b\n", "zero byte in line 1"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
        (b"a,b\nc,\xff\n", "0xFF in line 2"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, data, message):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        load_corpus([path], CorpusConfig())


def test_tables_and_texts_do_not_mix(tmp_path):
    path = table_of(tmp_path / "a.csv", NAMES)
    other = tmp_path / "b.txt"
    other.write_text("x\ny\nz\n")
    with pytest.raises(CorpusError, match="must all be tables"):
        load_corpus([path, other], CorpusConfig())
