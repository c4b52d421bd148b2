"""The search index, and the sentence that answers."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.artifacts import sha256_file
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError
from wikigpt.knowledge import Index, KnowledgeSettings, build_index, index_documents
from wikigpt.knowledge.asked import Asked, Wordings, asked_types, known_relations
from wikigpt.knowledge.passages import BODY, FACTS, LEAD, cut
from wikigpt.knowledge.reading import find_quote, unknown_names, value_parts
from wikigpt.knowledge.spelling import corrected
from wikigpt.knowledge.text import (
    find_units,
    fold,
    holds,
    name_key,
    occurrences,
    search_terms,
    segmented,
    singulars,
    stem,
    units,
    without,
)


def article(title: str, text: str, lang: str = "en", **more: object) -> Document:
    return Document(
        id=f"{lang}-{title}",
        revision="7",
        url=f"https://{lang}.example.org/wiki/{title}",
        title=title,
        text=text,
        lang=lang,
        **more,  # type: ignore[arg-type]
    )


WIKI = [
    article(
        "France",
        "France is a country in Western Europe. Its capital is Paris, on the river Seine.\n\n"
        "## People\nSome 68,373,433 people live there. They speak French.\n\n"
        "## Money\nThe euro replaced the franc in 2002.",
        facts=(("capital", "Paris"), ("population", "68,373,433"), ("currency", "euro")),
        aliases=("French Republic",),
        langlinks=(("zh", "法国"),),
    ),
    article(
        "Germany",
        "Germany is a country in Central Europe. The seat of its government is Berlin.\n\n"
        "## People\nIt has 83,200,000 inhabitants.",
        facts=(("capital", "Berlin"), ("population", "83,200,000")),
        langlinks=(("zh", "德国"),),
    ),
    article("Paris", "Paris is the largest city of France. The Eiffel Tower was built there in 1889."),
    article(
        "Mercury (planet)",
        "Mercury is the planet nearest to the Sun. It has no moons.",
        facts=(("moons", "0"), ("orbital_period", "88 days")),
    ),
    article(
        "Mercury (element)",
        "Mercury is a metal that is liquid at room temperature. Its symbol is Hg.",
        facts=(("symbol", "Hg"),),
    ),
    article("Wolf", "The wolf is a mammal that lives in packs. It eats deer."),
    article(
        "法国",
        "法国是西欧的一个国家，首都是巴黎。\n\n## 人口\n全国约有6837万人。居民说法语。",
        "zh",
        facts=(("首都", "巴黎"), ("货币", "欧元")),
        aliases=("法蘭西共和國",),
        langlinks=(("en", "France"),),
    ),
    article(
        "北京",
        "北京是中国的首都，也是全国的政治中心。\n\n## 历史\n金朝于1153年迁都于此。",
        "zh",
        facts=(("国家", "中国"),),
    ),
    article("中国", "中国位于亚洲东部，首都是北京。长江是最长的河流。", "zh", facts=(("首都", "北京"),)),
    article("金", "金是一种贵金属，化学元素符号是Au。", "zh", facts=(("元素符号", "Au"),)),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    index_documents(WIKI, path)
    return Index(path)


def test_folding_makes_case_width_accents_and_script_equal() -> None:
    assert fold("ＰＡＲＩＳ") == fold("Paris")
    assert name_key("São Tomé") == "sao tome"
    assert name_key("臺灣") == name_key("台湾")
    assert units("68,373,433 people") == ["68373433", "people"]
    assert units("3.14 and 1990,2000") == ["3.14", "and", "1990", "2000"]
    assert fold("が") == "が"  # a mark that makes another letter stays


def test_unspaced_script_is_cut_into_pairs_and_ends_with_its_last_character() -> None:
    assert segmented("在北京市").split() == ["在北", "北京", "京市", "市"]
    assert segmented("T恤衫 is").split() == ["t", "恤衫", "衫", "is"]


def test_search_terms_leave_out_what_every_question_has() -> None:
    assert search_terms("What is the capital of France?") == ["capital", "france"]
    assert search_terms("请问法国的首都是哪里？") == ["法国", "首都"]
    assert search_terms("金的符号") == ["金", "符号"]


@pytest.mark.parametrize(
    "words", ["discovered discoverer discovery", "invented inventor invention inventions", "located location"]
)
def test_stems_join_what_questions_and_texts_say_differently(words: str) -> None:
    assert len({stem(word) for word in words.split()}) == 1


def test_singulars() -> None:
    assert "wolf" in singulars("wolves")
    assert "city" in singulars("cities")
    assert singulars("glass") == []


def test_facts_are_found_as_whole_words_and_numbers_only() -> None:
    assert holds("Some 1,200 people", "1200")
    assert not holds("Some 1,200 people", "200")
    assert not holds("the Parisian way", "Paris")
    assert holds("首都是巴黎。", "巴黎")
    assert not holds("112人", "12")
    assert not holds("anything", "")


@given(st.text(max_size=40), st.text(max_size=10))
def test_text_functions_take_anything(text: str, name: str) -> None:
    assert units(fold(text)) == units(text) or fold(fold(text)) != fold(text)
    assert find_units(units(text), units(text)) == (0 if units(text) else -1)
    search_terms(text), segmented(text), without(text, [name])


def test_without_takes_out_whole_names() -> None:
    assert "mali" not in without("The capital of Mali", ["Mali"])
    assert "malian" in without("the Malian capital", ["Mali"])
    assert "法国" not in without("法国的首都", ["法国"])


def test_passages_keep_to_their_section_and_hold_whole_sentences() -> None:
    text = "One is here. Two is here.\n\n## Second\n" + "A sentence of some length stands here. " * 20
    pieces = list(cut(article("X", text, facts=(("key", "value"),)), 200))
    assert [piece.kind for piece in pieces[:3]] == [FACTS, LEAD, BODY]
    assert pieces[0].text == "key: value"
    assert {piece.section for piece in pieces if piece.kind == BODY} == {"Second"}
    assert all(piece.text.endswith(".") for piece in pieces[1:])
    assert all(len(piece.text) < 300 for piece in pieces)


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["Ein Satz.", "它有三句话。", "- item", "## Head", "", "x" * 300]), max_size=20))
def test_no_text_is_lost_in_passages(lines: list[str]) -> None:
    text = "\n".join(lines)
    kept = "".join(piece.text for piece in cut(article("X", text, "zh"), 80))
    wanted = "".join(line for line in lines if not line.startswith("## "))
    assert "".join(kept.split()) == "".join(wanted.split())


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What is the capital of France?", "France"),
        ("what is the capital of france", "France"),
        ("Where does the French Republic lie?", "France"),
        ("What do wolves eat?", "Wolf"),
        ("Name France's capital.", "France"),
        ("法国的首都是哪里？", "法国"),
        ("法蘭西共和國的首都？", "法国"),
        ("法國的首都是哪裡？", "法国"),
        ("金的符号是什么？", "金"),
    ],
)
def test_entity_is_found(index: Index, question: str, title: str) -> None:
    assert index.entities(question)[0] == title
    assert index.search(question)[0].title == title
    assert index.search(question)[0].title_match


def test_a_name_inside_a_longer_one_does_not_count(index: Index) -> None:
    assert "France" not in index.entities("Francesca")
    assert index.entities("Paris, France") == ["France", "Paris"]  # the longer one first
    assert index.entities("Nothing here") == []


def test_interlanguage_titles_lead_to_the_article_in_the_language_asked_for(index: Index) -> None:
    assert index.entities("法国", lang="en") == ["France"]
    assert index.entities("法国", lang="zh") == ["法国"]


def test_of_two_articles_with_one_name_the_content_decides(index: Index) -> None:
    assert set(index.entities("Mercury")) == {"Mercury (planet)", "Mercury (element)"}
    assert index.search("How many moons does Mercury have?")[0].title == "Mercury (planet)"
    assert index.search("What is the symbol of mercury?")[0].title == "Mercury (element)"


@pytest.mark.parametrize(
    ("question", "titles"),
    [
        ("Does he know us?", []),  # the United States only in capitals
        ("What does the US export?", ["United States"]),
        ("What does the lion eat?", ["Lion"]),  # not the constellation that is also called The Lion
        ("Where is The Lion in the sky?", ["Lion"]),
        ("Where is Laos?", ["Laos"]),  # no plural of Lao
        ("铁的符号是什么？", ["铁"]),
        ("这个国家在哪里？", []),  # 家 is a part of 国家
        ("家是谁写的？", ["家 (小说)"]),
    ],
)
def test_names_that_look_like_words(tmp_path: Path, question: str, titles: list[str]) -> None:
    index_documents(
        [
            article("United States", "The United States is a country.", aliases=("US", "USA")),
            article("Lion", "The lion is a cat."),
            article("Leo", "Leo is a constellation.", aliases=("The Lion",)),
            article("Laos", "Laos is a country."),
            article("Lao", "Lao is a language."),
            article("铁", "铁是一种金属。", "zh"),
            article("家 (小说)", "《家》是巴金的小说。", "zh"),
            *(article(f"国{n}", "这是一个国家，那是另一个国家。", "zh") for n in range(60)),
        ],
        tmp_path / "index.sqlite",
    )
    assert Index(tmp_path).entities(question) == titles


def test_chinese_words_are_found_in_the_text(index: Index) -> None:
    assert index.search("长江")[0].title == "中国"
    assert index.search("1153年迁都")[0].title == "北京"
    assert {hit.title for hit in index.search("北京")} == {"北京", "中国"}


def test_hits_carry_where_they_come_from(index: Index) -> None:
    hit = index.search("When did the euro replace the franc?")[0]
    assert (hit.title, hit.section, hit.kind) == ("France", "Money", BODY)
    assert (hit.id, hit.revision) == ("en-France", "7")
    assert hit.url == "https://en.example.org/wiki/France"


def test_language_restricts(index: Index) -> None:
    assert {hit.lang for hit in index.search("France capital 法国 首都", lang="en", k=20)} == {"en"}
    assert index.search("长江", lang="en") == []


def test_k_and_order(index: Index) -> None:
    hits = index.search("capital of France", k=3)
    assert len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize(
    "query", ["", "???", '"', "a OR b", "NEAR(x y)", "the of", "*", "x" * 100_000, "北" * 100_000, "3.14", "\x00\ud800"]
)
def test_odd_queries_do_no_harm(index: Index, query: str) -> None:
    assert isinstance(index.search(query), list)
    assert isinstance(index.entities(query), list)


@settings(max_examples=100)
@given(query=st.text(max_size=60))
def test_any_query_is_answered(index: Index, query: str) -> None:
    index.search(query)


def test_every_article_is_found_by_its_title(index: Index) -> None:
    for document in WIKI:
        assert document.title in [hit.title for hit in index.search(document.title, lang=document.lang)]


def test_build_index_makes_a_folder_with_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wikigpt.corpus.read_corpus", lambda folder: iter(WIKI))
    monkeypatch.setattr("wikigpt.corpus.corpus_manifest", lambda folder: {"documents": len(WIKI), "licence": "CC0"})
    seen: list[tuple[int, int, str]] = []
    manifest = build_index(tmp_path / "corpus", tmp_path / "knowledge", progress=lambda *at: seen.append(at))
    assert json.loads((tmp_path / "knowledge" / "index.json").read_text()) == manifest
    assert (manifest["articles"], manifest["licence"]) == (len(WIKI), "CC0")
    assert manifest["sha256"]["index.sqlite"] == sha256_file(tmp_path / "knowledge" / "index.sqlite")
    assert seen[-1][:2] == (len(WIKI), len(WIKI))
    index = Index(tmp_path / "knowledge")
    build_index(tmp_path / "corpus", tmp_path / "knowledge")  # replaced while it is read
    assert index.search("长江")
    assert [path.name for path in tmp_path.iterdir()] == ["knowledge"]


CHANGES = [
    *(document for document in WIKI if document.title not in ("Wolf", "Paris", "法国")),
    article("Paris", "Paris has 2,100,000 inhabitants. The Louvre is a museum there."),  # changed
    article("法国", "法国的国土面积约为55万平方公里。", "zh", facts=(("首都", "巴黎"), ("国歌", "马赛曲"))),  # changed
    article("Lynx", "The lynx is a cat with tufted ears. It hunts hares.", aliases=("Bobcat",)),  # new; Wolf is gone
]
QUERIES = [
    "Paris museum",
    "Eiffel Tower",
    "法国的国歌",
    "首都是巴黎",
    "wolf packs deer",
    "bobcat",
    "capital of France",
    "说法语",
]


def found(index: Index, query: str) -> list[tuple[str, str, float]]:
    return sorted((hit.title, hit.text, round(hit.score, 6)) for hit in index.search(query, k=20))


def test_an_updated_index_answers_as_a_new_one_does(tmp_path: Path) -> None:
    index_documents(WIKI, tmp_path / "updated.sqlite")
    counts = index_documents(CHANGES, tmp_path / "updated.sqlite", update=True)
    assert (counts["added"], counts["removed"]) == (3, 3)
    index_documents(CHANGES, tmp_path / "new.sqlite")
    updated, new = Index(tmp_path / "updated.sqlite"), Index(tmp_path / "new.sqlite")
    assert updated.meta | {"longest_name": 0} == new.meta | {"longest_name": 0}  # a longest name may be gone
    for query in QUERIES:
        assert found(updated, query) == found(new, query), query
        assert updated.entities(query) == new.entities(query)
    assert updated.problems() == new.problems() == []
    # Back again, and nothing at all to do.
    assert index_documents(WIKI, tmp_path / "updated.sqlite", update=True)["removed"] == 3
    counts = index_documents(WIKI, tmp_path / "updated.sqlite", update=True)
    assert (counts["added"], counts["removed"]) == (0, 0)
    index_documents(WIKI, tmp_path / "new.sqlite")
    updated, new = Index(tmp_path / "updated.sqlite"), Index(tmp_path / "new.sqlite")
    for query in QUERIES:
        assert found(updated, query) == found(new, query), query


@settings(max_examples=40, deadline=None)
@given(versions=st.lists(st.lists(st.sampled_from([*WIKI, *CHANGES]), unique_by=repr), min_size=1, max_size=4))
def test_any_row_of_updates_ends_as_a_new_index(
    tmp_path_factory: pytest.TempPathFactory, versions: list[list[Document]]
) -> None:
    folder = tmp_path_factory.mktemp("updates")
    for number, documents in enumerate(versions):
        index_documents(documents, folder / "updated.sqlite", update=number > 0)
    index_documents(versions[-1], folder / "new.sqlite")
    updated, new = Index(folder / "updated.sqlite"), Index(folder / "new.sqlite")
    assert updated.meta | {"longest_name": 0} == new.meta | {"longest_name": 0}
    for query in QUERIES:
        assert found(updated, query) == found(new, query)
    assert not updated.problems()


def test_building_again_keeps_what_did_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = WIKI
    monkeypatch.setattr("wikigpt.corpus.read_corpus", lambda folder: iter(documents))
    monkeypatch.setattr("wikigpt.corpus.corpus_manifest", lambda folder: {})
    output = tmp_path / "knowledge"
    assert build_index(tmp_path, output)["added"] == len(WIKI)
    opened = Index(output)
    assert opened.renewed() is opened
    documents = CHANGES
    assert build_index(tmp_path, output)["added"] == 3
    assert opened.search("Eiffel Tower") and opened.renewed().search("Louvre")  # the old one can still be read
    assert opened.renewed() is not opened
    documents = WIKI
    assert build_index(tmp_path, output, update=False)["added"] == len(WIKI)
    assert build_index(tmp_path, output, settings=KnowledgeSettings(passage_bytes=300))["added"] == len(WIKI)
    (output / "index.sqlite").write_bytes(b"damaged")
    opened = opened.renewed()
    assert opened.search("Paris")  # what cannot be read does not take the place of what can
    assert build_index(tmp_path, output)["added"] == len(WIKI)
    assert not Index(output).problems()


def test_what_is_wrong_with_an_index_is_found(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    many = [article(f"Place {n}", f"Place {n} has a tower, a gate and {n * 7919} trees." * 20) for n in range(300)]

    def problems() -> str:
        return "; ".join(Index(path).problems())

    index_documents(many, path)
    assert not problems()
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM passages WHERE passage = 7")
    assert "passages, but" in problems()
    index_documents(many, path)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO words(words) VALUES ('delete-all')")
    assert "cannot be found by their words" in problems()
    index_documents(many, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    assert problems()


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("The discovery of radium, in 1898.", "Who discovered radium?", ["discovery", "radium"]),
        ("法国的首都是巴黎。", "首都巴黎", ["首都", "巴黎"]),
        ("法國的首都。", "法国", ["法國"]),  # Traditional characters
        ("Ｐａｒｉｓ ﬁne", "paris fine", ["Ｐａｒｉｓ", "ﬁne"]),  # full width, and a ligature that folding lengthens
        ("nothing here", "Paris", []),
    ],
)
def test_words_looked_for_are_found_in_a_text(text: str, query: str, marked: list[str]) -> None:
    assert [text[start:end] for start, end in occurrences(text, search_terms(query))] == marked


NAMED = [
    article("Albert Einstein", "Albert Einstein was a physicist who found the theory of relativity."),
    article("阿尔伯特·爱因斯坦", "爱因斯坦是物理学家。", "zh", aliases=("爱因斯坦",)),
    article("布达佩斯", "布达佩斯是匈牙利的首都。", "zh"),
    article("Lima", "Lima is the capital of Peru."),
]


@pytest.mark.parametrize(
    ("question", "read_as"),
    [
        ("Who was Albert Einstien?", "Who was Albert Einstein?"),  # two letters changed places
        ("Who was ALBERT EINSTEN?", "Who was ALBERT Einstein?"),
        ("who found the theory of relativity", "who found the theory of relativity"),
        ("爱因斯但是谁？", "爱因斯坦是谁？"),
        ("布达佩期在哪个国家？", "布达佩斯在哪个国家？"),
        ("爱因斯坦是谁？", "爱因斯坦是谁？"),
        ("布达是谁？", "布达是谁？"),  # too short to be a slip
        ("Where is Lama?", "Where is Lima?"),
        ("Where is Rima?", "Where is Rima?"),  # the first letter is hardly ever wrong
        ("Where is Lam?", "Where is Lam?"),
        ("Who was Einsteinweg?", "Who was Einsteinweg?"),
        ("", ""),
    ],
)
def test_slips_in_names_are_put_right(tmp_path_factory: pytest.TempPathFactory, question: str, read_as: str) -> None:
    path = tmp_path_factory.getbasetemp() / "named.sqlite"
    if not path.exists():
        index_documents(NAMED, path)
    assert corrected(Index(path), question) == read_as


def test_nothing_to_index_and_strange_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wikigpt.corpus.read_corpus", lambda folder: iter(()))
    monkeypatch.setattr("wikigpt.corpus.corpus_manifest", lambda folder: {})
    with pytest.raises(UserError, match="no article"):
        build_index(tmp_path / "corpus", tmp_path / "knowledge")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        build_index(tmp_path / "corpus", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_not_an_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search index"):
        Index(tmp_path)
    (tmp_path / "index.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match="damaged or no search index"):
        Index(tmp_path)


def test_an_index_of_another_layout_is_refused(tmp_path: Path) -> None:
    index_documents(WIKI, tmp_path / "index.sqlite")
    with sqlite3.connect(tmp_path / "index.sqlite") as database:
        database.execute("UPDATE meta SET value = 99 WHERE key = 'format'")
    with pytest.raises(UserError, match="layout 99"):
        Index(tmp_path)


def test_an_index_on_a_read_only_folder_opens(tmp_path: Path) -> None:
    index_documents(WIKI, tmp_path / "index.sqlite")
    assert Index(tmp_path).search("France")
    assert [path.name for path in tmp_path.iterdir()] == ["index.sqlite"]  # no journal beside it


def test_import_is_light() -> None:
    code = "import sys, wikigpt.knowledge, wikigpt.chat; print('torch' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_settings_refuse_unknown_keys() -> None:
    with pytest.raises(ValueError, match="passage_size"):
        KnowledgeSettings(passage_size=3)  # type: ignore[call-arg]


ASKED = Asked(
    {
        "en": [
            Wordings(("capital",), ("capital", "Which city is the capital of {title}?")),
            Wordings(("population",), ("population", "How many people live in {title}?", "number of inhabitants")),
            Wordings(("currency",), ("currency", "What do people pay with in {title}?")),
        ],
        "zh": [
            Wordings(("首都",), ("首都", "{title}的首都是哪里？")),
            Wordings(("人口",), ("人口", "{title}有多少居民？")),
            Wordings(("货币",), ("货币", "在{title}用什么钱？")),
        ],
    }
)


def test_wordings_tell_the_relation() -> None:
    def asked(question: str, lang: str) -> str:
        found = ASKED(question, lang)
        return found[0][0].keys[0] if found else ""

    assert asked("So how many people live in ?", "en") == "population"
    assert asked("Could you look up the capital for me?", "en") == "capital"
    assert asked("的居民有多少？", "zh") == "人口"
    assert asked("Does it have wheels?", "en") == ""


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("What is the capital of France?", "Its capital is Paris, on the river Seine."),
        ("What is France?", "France is a country in Western Europe."),
        ("When did the euro replace the franc in France?", "The euro replaced the franc in 2002."),
        ("How many people live in France?", "Some 68,373,433 people live there."),
        ("When was the Eiffel Tower built?", "The Eiffel Tower was built there in 1889."),
        ("法国的首都是哪里？", "法国是西欧的一个国家，首都是巴黎。"),
        ("北京哪一年成为金朝的首都？", "金朝于1153年迁都于此。"),
        ("法国人说什么语？", "居民说法语。"),
    ],
)
def test_best_sentence(index: Index, question: str, sentence: str) -> None:
    lang = "en" if question.isascii() else "zh"
    quote = find_quote(index, question, index.search(question, lang=lang, k=8), lang)
    assert quote is not None
    assert quote.sentence == sentence


def test_the_infobox_says_which_value_is_meant(index: Index) -> None:
    # The sentence shares no word with the question; the key `capital` does, and the sentence holds its value.
    question = "What is the capital of Germany?"
    quote = find_quote(index, question, index.search(question, k=8), "en")
    assert quote is not None
    assert (quote.sentence, quote.value) == ("The seat of its government is Berlin.", "Berlin")


def test_a_draft_brings_words_but_not_its_value(index: Index) -> None:
    question = "How populous is Germany?"
    hits = [hit for hit in index.search(question, k=8) if hit.kind != FACTS]
    quote = find_quote(index, question, hits, "en", draft="Germany has **Berlin** inhabitants.")
    assert quote is not None
    assert quote.sentence == "It has 83,200,000 inhabitants."


def test_known_wordings_find_a_value_that_shares_no_word(index: Index) -> None:
    question = "What do people pay with in France?"
    hits = index.search(question, k=8)
    quote = find_quote(index, question, hits, "en", relations=ASKED)
    assert quote is not None
    assert quote.value == "euro"
    assert "euro" in quote.sentence


def test_what_nothing_speaks_of_has_little_coverage(index: Index) -> None:
    for question in ("What is the capital of Zorblaxia?", "How deep are the trenches of France?"):
        quote = find_quote(index, question, index.search(question, k=8), "en", relations=ASKED)
        assert quote is None or quote.coverage < 0.5


def test_a_draft_names_the_relation(index: Index) -> None:
    question = "Which coins jingle in French pockets, I mean in France?"
    hits = index.search(question, k=8)
    quote = find_quote(index, question, hits, "en", relations=ASKED, draft="The currency of France is the **dollar**.")
    assert quote is not None
    assert quote.value == "euro"


def test_one_key_may_mean_two_things() -> None:
    element = Wordings(("symbol",), ("symbol",), needs=(frozenset({"atomicnumber"}),))
    currency = Wordings(("symbol",), ("symbol",), excludes=frozenset({"atomicnumber"}))
    assert (element.fits({"symbol", "atomicnumber"}), currency.fits({"symbol", "atomicnumber"})) == (True, False)
    assert (element.fits({"symbol"}), currency.fits({"symbol"})) == (False, True)


def test_names_that_the_wiki_does_not_know(index: Index) -> None:
    assert unknown_names(index, "I asked about the capital of Flumhenth.") == ["Flumhenth"]
    assert unknown_names(index, "请问左布拉克的首都？") == ["左布拉克"]
    assert unknown_names(index, "Tell me the capital of France.") == []
    assert unknown_names(index, "法国的首都是哪里？") == []


def test_the_wordings_of_the_conversations_are_known() -> None:
    asked = known_relations()
    assert "population" in asked("How many people live in , please?", "en")[0][0].keys
    assert "首都" in asked("的首都是哪座城市？", "zh")[0][0].keys
    assert asked("anything", "xx") == []


def test_types_of_answers() -> None:
    assert asked_types("Who discovered radium?") == ["person"]
    assert asked_types("它是哪一年发现的？") == ["year"]
    assert asked_types("法国有多少人口？") == ["number"]


def test_lists_of_values_are_cut_but_numbers_are_not() -> None:
    assert value_parts("French, German and Italian") == ["French", "German", "Italian"]
    assert value_parts("68,373,433") == ["68,373,433"]
    assert value_parts("法语、德语") == ["法语", "德语"]


@pytest.mark.parametrize(
    ("question", "held"),
    [
        ("我忘了青云航空的成立年份，能提醒我一下吗？", "2009年"),
        ("没听说过青云航空，那是什么？", "航空公司"),
        ("Which year was Blue Cloud Airways founded in?", "2011"),
        ("I have never heard of Blue Cloud Airways. What is that?", "airline"),
    ],
)
def test_sentences_that_state_what_is_asked_are_found_without_an_infobox(tmp_path, question, held):
    documents = [
        Document(
            "1", "1", "", "青云航空", "青云航空是一家航空公司。公司成立于2009年，2012年开始飞行。总部有三千人。", "zh"
        ),
        Document(
            "2",
            "1",
            "",
            "Blue Cloud Airways",
            "Blue Cloud Airways is a small airline. It was founded in 2011. It flies to nine towns.",
            "en",
        ),
    ]
    index_documents(documents, tmp_path / "index.sqlite")
    index = Index(tmp_path / "index.sqlite")
    lang = "zh" if "青" in question else "en"
    quote = find_quote(index, question, index.search(question, lang=lang), lang, relations=known_relations())
    assert quote is not None and held in quote.sentence and quote.coverage >= 0.25
