"""The report as PDF and HTML: what stands where, and that nothing is lost or let through."""

import copy
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from scorecard_maker import emptied, make_scorecard, poisoned

from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.report import png, write
from batterylab.report.card import read_card
from batterylab.report.content import document
from batterylab.report.model import Figure

pypdf = pytest.importorskip("pypdf")


def pages_of(path):
    return [page.extract_text() for page in pypdf.PdfReader(path).pages]


def _tail(path):
    """Return the text of the pages after the charts, where the long table stands."""
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages[7:])


def flat(text):
    return re.sub(r"\s+", " ", text)


class _Page(HTMLParser):
    """Collects tags and text, and what a browser would run or fetch."""

    def __init__(self, content):
        super().__init__()
        self.text, self.tags, self.danger = [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            fetches = name in ("src", "href", "action", "data") and not str(value).startswith("#")
            if name.startswith("on") or fetches:
                self.danger.append((tag, name, value))
        if tag in ("script", "iframe", "object", "link", "img", "foreignobject"):
            self.danger.append((tag,))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def card():
    return make_scorecard()


@pytest.fixture(scope="module")
def files(tmp_path_factory, card):
    """Return the report of `card` as files; tests only read them."""
    folder = tmp_path_factory.mktemp("report")
    return write(SimpleNamespace(results=folder, archive=folder / "archive"), card)


@pytest.fixture(scope="module")
def pages(files):
    """Return the text of each page of the PDF."""
    return pages_of(files["pdf"])


def test_decision_with_reasons_and_risks_stands_on_the_first_page(pages, card):
    first = flat(pages[0])
    for word in ("Alpha", "QUALIFY", "Beta", "CONDITIONAL", "Risks", "99.7 %"):
        assert word in first
    assert first.index("1 Decision") < first.index("QUALIFY") < first.index("2 Traceability")
    for name in ("Alpha", "Beta"):
        for text in card["decision"][name]["reasons"] + card["decision"][name]["risks"]:
            assert text in first


def test_sections_come_in_the_order_a_reader_needs(card):
    titles = [section.title for section in document(read_card(card)).sections]
    assert titles == [
        "Decision", "Traceability", "Gates by rule", "Capability: Capacity (Ah)",
        "Capability: DC resistance, 10 s (mΩ)", "Capability: AC resistance (mΩ)",
        "Capability: Energy (Wh)", "Other characteristics", "Lots and suppliers compared",
        "Measurement system", "Variance components", "Pack", "Exclusions",
        "What would change this decision", "Signatures", "Recordings",
    ]  # fmt: skip


def test_each_characteristic_has_its_six_charts_on_one_page(pages):
    captions = (
        "Distribution and limits", "Values by lot", "Mean of each supplier",
        "Normal probability plot", "Values in order", "Where the spread comes from",
    )  # fmt: skip
    for label in ("Capacity (Ah)", "DC resistance, 10 s", "AC resistance", "Energy (Wh)"):
        (page,) = [flat(page) for page in pages if f"Capability: {label}" in flat(page)]
        places = [page.index(caption) for caption in captions]
        assert places == sorted(places)
        assert "Ppk (95 %; n)" in page


@pytest.mark.parametrize(("fmt", "count"), [("pdf", 600), ("html", 2000)])
def test_all_recordings_survive_in_the_traceability_table(place, fmt, count):
    card = make_scorecard(recordings=count)
    path = write(place, card, (fmt,))[fmt]
    text = path.read_text(encoding="utf-8") if fmt == "html" else _tail(path)
    found = set(re.findall(r"\b[0-9a-f]{8}\b", text))
    codes = {row["seal"][:8] for row in card["recordings"]}
    assert len(codes) == count
    assert codes <= found


def test_a_capability_never_stands_without_bound_and_n(place, card, pages):
    text = flat(" ".join(pages))
    for supplier in ("Alpha", "Beta"):
        one = card["features"]["capacity_Ah"]["suppliers"][supplier]["capability"]
        bound = f"{one['cpk']:.2f} (at least {one['cpk_lower_95']:.2f}; n = {one['n']})"
        assert bound in text
    bare = copy.deepcopy(card)
    for feature in bare["features"].values():
        for row in feature["suppliers"].values():
            if row["capability"]:
                row["capability"].update(cpk=3.21, n=None)
    assert "3.21" not in flat(" ".join(pages_of(write(place, bare, ("pdf",))["pdf"])))


def test_the_same_scorecard_gives_the_same_bytes(place, card, files):
    first = {k: p.read_bytes() for k, p in files.items()}
    second = {k: p.read_bytes() for k, p in write(place, copy.deepcopy(card)).items()}
    assert first == second
    formats = ("xlsx", "dfq", "json")
    third = {k: p.read_bytes() for k, p in write(place, card, formats).items()}
    assert third == {k: p.read_bytes() for k, p in write(place, card, formats).items()}
    other = {**card, "generated_utc": "2026-02-04T10:11:12+00:00"}
    assert write(place, other, ("pdf",))["pdf"].read_bytes() != first["pdf"]


def test_the_pdf_is_tagged_archival_and_dated_by_the_scorecard(files):
    reader = pypdf.PdfReader(files["pdf"])
    assert reader.metadata.title == "Supplier report: pouch-5Ah-2026Q4"
    assert reader.metadata.creation_date.isoformat().startswith("2026-02-03T10:11:12")
    assert "/StructTreeRoot" in reader.trailer["/Root"]
    xmp = reader.trailer["/Root"]["/Metadata"].get_object().get_data()
    assert b"pdfaid:part" in xmp
    assert b"pdfuaid:part" in xmp


def test_hostile_text_is_printed_and_not_obeyed(place):
    files = write(place, poisoned(make_scorecard(lots=2, cells=2)), ("pdf", "html"))
    text = flat(" ".join(pages_of(files["pdf"]))).replace("\u200b", "")
    assert "*bold* $x$" in text
    assert "@ref [b] {c}" in text
    page = _Page(files["html"].read_text(encoding="utf-8"))
    assert page.danger == []
    assert "<script>alert('x')</script>" in "".join(page.text)
    for content in (text, files["html"].read_text(encoding="utf-8")):
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202e]", content)


def test_very_long_words_stay_on_the_page_and_are_counted(place, card):
    long = copy.deepcopy(card)
    long["decision"]["Alpha"]["reasons"] = ["x" * 5000]
    long["exclusions"][0]["reason"] = "y" * 900
    long["recordings"][3]["serial"] = "W" * 64
    text = "".join(pages_of(write(place, long, ("pdf",))["pdf"]))
    joined = re.sub(r"[\s\u200b]", "", text)
    assert "(4000morecharacters)" in joined
    assert joined.count("x" * 1000) == 1
    assert "y" * 900 in joined
    assert text.count("W") >= 64


@pytest.mark.parametrize("names", [("Alpha",), tuple(f"Supplier {n}" for n in range(1, 7))])
def test_one_supplier_and_six_give_a_report(place, names):
    files = write(place, make_scorecard(names, cells=4), ("pdf", "html"))
    pages = pages_of(files["pdf"])
    for name in names:
        assert name in flat(pages[0])
    count = sum("Normal probability plot" in page for page in pages)
    assert count == 4
    six = next(flat(page) for page in pages if "Capability: Capacity" in flat(page))
    assert all(name in six for name in names)


def test_a_scorecard_of_nulls_gives_a_report(place, card):
    files = write(place, emptied(card), ("pdf", "html", "xlsx", "dfq", "json"))
    first = flat(pages_of(files["pdf"])[0])
    assert "NOT ENOUGH DATA" in first
    text = files["html"].read_text(encoding="utf-8")
    assert "nan" not in re.sub("<svg.*?</svg>", "", text, flags=re.S).lower().split()
    assert "None" not in _visible(text)


def _visible(content):
    return " ".join(_Page(re.sub("<style.*?</style>", "", content, flags=re.S)).text)


@pytest.mark.parametrize("missing", list(make_scorecard()))
def test_a_missing_part_is_said_not_fatal(card, missing, monkeypatch):
    monkeypatch.setattr("batterylab.report.content.six", lambda *_: ())
    drawing = Figure("overview", "", "", "<svg />")
    monkeypatch.setattr("batterylab.report.content.overview", lambda *_: drawing)
    part = {key: value for key, value in card.items() if key != missing}
    for scorecard in (part, {**card, missing: None}, {**card, missing: 7 if missing != "schema"
                                                     else None}):  # fmt: skip
        assert document(read_card(scorecard)).sections[0].title == "Decision"


def test_an_empty_scorecard_is_set_too(place):
    text = flat(" ".join(pages_of(write(place, {}, ("pdf",))["pdf"])))
    assert "there is nothing to decide" in text


def test_cells_without_lots_and_with_few_values(place, card):
    one = copy.deepcopy(card)
    for feature in one["features"].values():
        feature["values"] = feature["values"][:1]
        for value in feature["values"]:
            value["lot"] = ""
        for row in feature["suppliers"].values():
            row.update(lot={}, lots=0, sd_lot=None, sd_cell=None, mean_interval=None)
    text = flat(" ".join(pages_of(write(place, one, ("pdf",))["pdf"])))
    assert "(no interval)" in text
    assert "belong to no lots" in text


def test_a_name_in_another_script_does_not_stop_the_pdf(place, card):
    named = copy.deepcopy(card)
    named["study"] = "电池 \U0001f50b 検査 Ωμέγα Батарея"
    path = write(place, named, ("pdf",))["pdf"]
    assert "Батарея" in flat(pages_of(path)[0])


def test_html_is_one_file_that_needs_nothing(card, files):
    content = files["html"].read_text(encoding="utf-8")
    page = _Page(content)
    assert page.danger == []
    assert page.tags.count("svg") == 25
    assert page.tags.count("table") == len(document(read_card(card)).tables())
    assert "url(http" not in content
    assert "@media print" in content
    assert "default-src 'none'" in content
    ids = re.findall(r'\bid="([^"]+)"', content)
    assert len(ids) == len(set(ids))


def test_pdf_and_html_hold_the_same_tables(card, files, pages):
    text = re.sub(r"[\s\u200b]", "", "".join(pages))
    html = re.sub(r"[\s\u200b]", "", _visible(files["html"].read_text(encoding="utf-8")))
    for table in document(read_card(card)).tables():
        for row in table.rows:
            for cell in row:
                packed = re.sub(r"\s", "", cell)
                assert packed in html
                assert packed in text


def test_fits_become_a_table_by_supplier(place, card):
    seals = {row["serial"]: row["seal"] for row in card["recordings"]}
    fits = [
        {"model": "ocv", "seal": seals[f"{lot}-00{n}"], "values": {"capacity_Ah": 5.0 + n / 100},
         "standard_errors": {"capacity_Ah": 0.002}, "residual_mV": 1.5, "converged": True,
         "at_bound": []}
        for lot in ("A1", "B1") for n in (1, 2, 3)
    ]  # fmt: skip
    fits.append({**fits[0], "converged": False, "values": {"capacity_Ah": None}})
    text = flat(" ".join(pages_of(write(place, card, ("pdf",), fits=fits)["pdf"])))
    assert "7, of which 1 did not converge" in text
    assert "ocv capacity_Ah Alpha 3 5.0200 0.01 0.002" in text


def test_instruments_and_software_come_from_the_archive(study, card):
    from batterylab import archive

    entries = archive.find(study.archive)
    named = {**card, "recordings": [
        {"seal": e.seal, "serial": e.serial, "supplier": e.supplier, "lot": e.lot, "channel": "1-7",
         "protocol": e.protocol, "start_utc": e.start_utc, "state": "valid"} for e in entries
    ]}  # fmt: skip
    text = flat(" ".join(pages_of(write(study, named, ("pdf",))["pdf"])))
    assert "keysight_bt2200 MY58000516 2027-03-01 3" in text
    assert "Recorded with batterylab 0.1.0 (3 recordings)" in text


def test_a_page_becomes_a_picture(place, card, tmp_path):
    path = png(place, card, tmp_path / "page.png", ppi=40)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert (int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")) == (
        pytest.approx(331, abs=2), pytest.approx(468, abs=2),
    )  # fmt: skip


def test_mistakes_are_one_clear_error_and_write_nothing(place, card):
    with pytest.raises(BatterylabError, match="unknown format 'docx'"):
        write(place, card, ("pdf", "docx"))
    with pytest.raises(BatterylabError, match=r"batterylab\.scorecard/9"):
        write(place, {**card, "schema": "batterylab.scorecard/9"})
    with pytest.raises(BatterylabError, match="not an object"):
        write(place, [card])
    assert not place.results.exists()


def test_a_disk_that_refuses_leaves_the_old_report(place, card, monkeypatch):
    path = write(place, card, ("json",))["json"]
    before = path.read_bytes()

    def refuse(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(EnvironmentFailedError, match="no space left"):
        write(place, {**card, "study": "other"}, ("json",))
    assert path.read_bytes() == before
    assert [one.name for one in place.results.iterdir()] == ["report.json"]




def test_exclusions_name_each_characteristic_in_words(card):
    bare = copy.deepcopy(card)
    bare["exclusions"] = [{"seal": "ab" * 32, "serial": "A1-001", "state": "invalid",
                           "feature": "capacity_Ah, dcir_10s_mOhm", "reason": "r"}]  # fmt: skip
    report = document(read_card(bare))
    table = next(table for table in report.tables() if table.key == "exclusions")
    assert table.rows[0][2] == "Capacity (Ah); DC resistance, 10 s (mΩ)"
