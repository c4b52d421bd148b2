"""Infoboxes become facts: pairs of key and plain value."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import words
from wikigpt.corpus.wikitext.marks import ANY_MARK

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

INFOBOX_NAME = re.compile(
    r"infobox|信息框|資訊框|信息盒|infotable|taxobox|speciesbox|virusbox|hybridbox|starbox|drugbox|chembox|geobox|"
    r"基礎情報|정보|infoskreine|infokast|infoboks|infoboxs|infobokss|infocaseta|infotaula|ficha|карточка|картка|info/|"
    r"tietolaatikko|infokutija|инфокутија|инфокутия|инфобокс|bilgi kutusu|kotak info|hộp thông tin|thông tin|"
    r"صندوق|جعبه|خانہ معلومات|תבנית|ინფოდაფა|տեղեկաքարտ|ज्ञानसन्दूक|তথ্যছক|தகவற்சட்டம்|กล่องข้อมูล|κουτί πληροφοριών|"
    r"πληροφορίες|capsa|chinese$|simplebox|personendaten|^persondata|^bio$|小行星$|条目$|城市$|国家$|人物$|艺人$|藝人$",
)
OTHER_NAME = re.compile(
    r"^cite|^citation|navbox|^reflist|^notelist|sidebar|^quote|image|gallery|^graph|^location map|^coord|^sfn|"
    r"^harv|^refn|^efn|^main|^about|^for$|^redirect|^multiple issues|^notice|^portal|^hatnote|^webarchive|chart|"
    r"^多个问题|^多個問題|^noteta|^notetag|^protect|^use |^翻译|^expand|^ambox|^tmbox|^legend|^clade|^sister|^歧义|"
    r"^otheruses|^lien web|^ouvrage|^article|^literatur|^internetquelle|^книга|^cita |^citar |^citeer|vejr|weather|"
    r"klima|climat|климат|^clima|天気|气候|氣候|navigationsleiste"
)
# Keys of an infobox that say how it looks, by the words they consist of (numbers at their end left out).
_SKIPPED_WORDS = words(
    """image img logo caption photo width map maps alt url website homepage coordinates coord coords lat latd
    latm lats latns lon long longd longm longs longew latitude longitude footnote footnotes style bgcolor
    background align ref refs signature audio embed embedded child module pushpin zoom format commons border
    flag seal shield emblem coat coa file screenshot cover note notes header nocat autocat link px size
    upright above below subheader colspan dim rowclass wikidata osm locator collapsed
    légende charte drapeau blason carte géolocalisation taille siteweb
    bild bildbeschreibung bildbreite lageplan wappen breitengrad längengrad karte koor bildtext karta flagga vapen
    imagen pie mapa bandera escudo leyenda immagine didascalia panorama bandiera stemma imagem legenda brasão
    afbeelding onderschrift kaart vlag wapen grafika zdjęcia zdjęcie herb flaga dopełniacz
    latitud longitud latitudine longitudine изображение подпись карта флаг герб сайт ширина дата_изображения
    画像 画像サイズ 画像説明 地図 旗 公式サイト ウェブサイト 脚注 그림 사진 웹사이트 지도 resim harita"""
)
_SKIPPED_ENDINGS = ("style", "link", "width", "size", "caption", "image", "color", "colour")
_SKIPPED_CHINESE = re.compile(
    r"[图圖]|照片|相片|网站|網站|官网|官網|经度|緯度|纬度|經度|签名|簽名|注脚|註腳|背景|旗帜|旗幟|[国國]旗|徽章?$|网址|網址"
)
_DATA_KEY = re.compile(r"(?:data|content|数据|資料|内容)[ _]?(\d{1,3})\Z")
_NO_VALUE = words("""- – — ? n/a none yes no y n 无 無 是 否 有 collapsed expanded uncollapsed autocollapse inherit""")
_CSS_COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}\Z|(?:rgb|hsl)a?\(")
_FILE_VALUE = re.compile(
    r"\.(?:jpe?g|png|svg|gif|tiff?|webp|ogg|oga|ogv|webm|mid|pdf)\b|^(?:https?:)?//|^www\.", re.IGNORECASE
)
MAX_FACTS = 80
MAX_VALUE = 300


def is_infobox(name: str, named: int, page: "Page") -> bool:
    """By its name; or because it is large, on the top level, and before the first running text.

    `named` is how many named arguments the template has.
    """
    return named >= (2 if _known(name) else 4) and may_be_infobox(name, page)


def may_be_infobox(name: str, page: "Page") -> bool:
    """Whether a template of this name that has arguments enough is an infobox where it stands."""
    known = _known(name)
    return known if known is not None else page.in_lead and page.depth == 1


@lru_cache(maxsize=8192)
def _known(name: str) -> bool | None:
    """Whether a template of this name is an infobox; None if the name does not say."""
    if OTHER_NAME.search(name):
        return False
    return True if INFOBOX_NAME.search(name) else None


def note_facts(arguments: dict[str, str], page: "Page") -> None:
    """Add what the infobox says to the page's facts, without what only says how the box looks."""
    for key, raw in arguments.items():
        if len(page.facts) >= MAX_FACTS:
            return
        if not raw or raw.isspace():
            continue
        label, number = _read_key(key)
        if number:  # the bare {{Infobox|label1=…|data1=…}}
            label = _of_subject(page.plain(arguments.get(f"label{number}", "")))
        if not label:
            continue
        value = fact_value(raw, page)
        if value and len(value) <= MAX_VALUE and value != page.title and not _FILE_VALUE.search(value):
            page.facts.append((label, value))


@lru_cache(maxsize=8192)
def _read_key(key: str) -> tuple[str, str]:
    """What a key says of the article's subject, "" if nothing; or the number of the label that says it."""
    label = ANY_MARK.sub("", key).strip().lower()
    numbered = _DATA_KEY.match(label)
    return ("", numbered.group(1)) if numbered else (_of_subject(label), "")


def _of_subject(label: str) -> str:
    """The label with underscores for spaces; "" if it is none, or says how the box looks."""
    if not label or len(label) > 40 or label.isdigit() or label.startswith("label") or _is_layout(label):
        return ""
    return "_".join(label.split())


def _is_layout(label: str) -> bool:
    words = {word.rstrip("0123456789") for word in re.split(r"[\s_-]+", label)}
    return (
        not words.isdisjoint(_SKIPPED_WORDS)
        or any(word.endswith(_SKIPPED_ENDINGS) for word in words - {"color", "colour"})
        or _SKIPPED_CHINESE.search(label) is not None
    )


def fact_value(raw: str, page: "Page") -> str:
    """An infobox value as plain text; several values (list items, line breaks) are joined by commas."""
    comma = "、" if page.lang in ("zh", "ja") else ", "
    lines = [line.removeprefix("- ").strip(" ,、;；") for line in page.plain_lines(raw)]
    lines = [line for line in lines if line]
    if not lines:
        return ""
    value = lines[0]
    for line in lines[1:]:
        # A line that opens a bracket explains the one before it.
        value += ("" if page.lang in ("zh", "ja") else " ") + line if line[0] in "(（" else comma + line
    return "" if value.lower() in _NO_VALUE or _CSS_COLOUR.match(value) else value
