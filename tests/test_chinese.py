"""Chinese wikitext as zh.wikipedia writes it, with what MediaWiki shows a reader of each variant."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.corpus.wikitext import Article, clean_wikitext, read_wikitext
from wikigpt.corpus.wikitext.variants import FALLBACKS, Rules, converter, parse_rule


def read(wikitext: str, variant: str | None = "zh-hans", title: str = "") -> Article:
    return read_wikitext(wikitext, lang="zh", variant=variant, title=title)


# Wikitext, and what it shows by variant.
PASSAGES: list[tuple[str, dict[str | None, str]]] = [
    # Leads
    (
        "{{NoteTA|G1=IT|1=zh-hans:计算机程序;zh-hant:電腦程式;}}\n"
        "{{Otheruses|subject=一門學科}}\n"
        "'''軟體工程'''（{{lang-en|software engineering}}，縮寫：'''SE'''）"
        "是[[電腦科學|電腦]]的一支<ref>{{cite book|title=書}}</ref>，"
        "研究-{zh-hans:计算机程序;zh-hant:電腦程式}-的寫法。",
        {
            "zh-hans": "软体工程（英语：software engineering，缩写：SE）是电脑的一支，研究计算机程序的写法。",
            "zh-hant": "軟體工程（英語：software engineering，縮寫：SE）是電腦的一支，研究電腦程式的寫法。",
        },
    ),
    (
        "{{Infobox person\n| 姓名 = 林某某\n| 出生日期 = {{birth date|1920|3|4}}\n| 職業 = [[作家]]、[[詩人]]\n}}\n"
        "'''林某某'''（{{bd|1920年|3月4日|1999年|12月31日}}），[[字]]'''子明'''，號'''聽雨'''，[[臺灣]][[作家]]。著有《雨夜》。",
        {
            "zh-hans": "林某某（1920年3月4日－1999年12月31日），字子明，号听雨，台湾作家。著有《雨夜》。",
            "zh-tw": "林某某（1920年3月4日－1999年12月31日），字子明，號聽雨，臺灣作家。著有《雨夜》。",
        },
    ),
    (
        "'''東京塔'''（{{lang-ja|東京タワー}}）位於[[東京都]][[港區 (東京都)|港區]]，高{{convert|333|m}}。",
        {
            "zh-hans": "东京塔（日语：東京タワー）位于东京都港区，高333米（1,093英尺）。",
            "zh-hant": "東京塔（日語：東京タワー）位於東京都港區，高333米（1,093英尺）。",
        },
    ),
    (
        "'''甲烷'''（[[化學式]]：{{chem|C|H|4}}；{{IPA|zh|tɕja}}）是[[氣體]]，沸點為−161.5 °C，"
        "溶於水<sup>[1]</sup>時放熱10<sup>3</sup> J。",
        {"zh-hans": "甲烷（化学式：CH₄）是气体，沸点为−161.5 °C，溶于水[1]时放热10³ J。"},
    ),
    (
        "'''-{于}-謙'''（{{lang|zh-hant|于謙}}，1398年－1457年），[[明朝]]大臣。後人作詩云：「-{于}-謙在，社稷安。」",
        {
            "zh-hans": "于谦（于谦，1398年－1457年），明朝大臣。后人作诗云：“于谦在，社稷安。”",
            "zh-tw": "于謙（于謙，1398年－1457年），明朝大臣。後人作詩云：「于謙在，社稷安。」",
        },
    ),
    # Each form of -{…}-
    (
        "她寫-{zh-cn:博客;zh-hk:網誌;zh-tw:部落格;}-，我也寫-{zh-cn:博客; zh-hk:網誌; zh-tw:部落格}-。",
        {
            "zh-hans": "她写博客，我也写博客。",
            "zh-cn": "她写博客，我也写博客。",
            "zh-sg": "她写博客，我也写博客。",
            "zh-hant": "她寫部落格，我也寫部落格。",
            "zh-tw": "她寫部落格，我也寫部落格。",
            "zh-hk": "她寫網誌，我也寫網誌。",
            "zh-mo": "她寫網誌，我也寫網誌。",
            None: "她寫博客，我也寫博客。",
        },
    ),
    (
        "部落格，-{A|zh-cn:博客;zh-tw:部落格}-，部落格-{-|zh-cn:博客;zh-tw:部落格}-，部落格。",
        {"zh-cn": "部落格，博客，博客，部落格。", "zh-tw": "部落格，部落格，部落格，部落格。"},
    ),
    (
        "-{H|zh-cn:计算机;zh-tw:電腦}--{H|zh-cn:超级计算机;zh-tw:超級電腦主機}-一台電腦、一台超級電腦主機、一台超級電腦。",
        {
            "zh-cn": "一台计算机、一台超级计算机、一台超级计算机。",
            "zh-tw": "一台電腦、一台超級電腦主機、一台超級電腦。",
        },
    ),
    (
        "-{H|zh-cn:甲;zh-tw:乙}-乙，-{H|zh-cn:丙;zh-tw:乙}-乙。",
        {"zh-cn": "甲，丙。", "zh-tw": "乙，乙。"},
    ),
    (
        "-{H|雪糕=>zh-cn:冰棍;雪糕=>zh-tw:冰棒;}-雪糕，-{冰棒=>zh-cn:冰棍;冰棍=>zh-tw:冰棒}-，冰棒",
        {
            "zh-cn": "冰棍，冰棍，冰棒",
            "zh-tw": "冰棒，冰棒，冰棒",
            "zh-sg": "雪糕，冰棍，冰棒",
            "zh-hans": "雪糕，冰棍，冰棒",
        },
    ),
    (
        "甲-{T|zh-hans:题;zh-hant:題}-乙，-{A;T|zh-hans:丙;zh-hant:丁}-，丁，-{H;T|zh-hans:戊;zh-hant:己}-己。",
        {"zh-hans": "甲乙，丙，丙，戊。", "zh-hant": "甲乙，丁，丁，己。"},
    ),
    (
        "-{R|zh-cn:甲;zh-tw:乙}-，-{電腦}-，-{R|電腦}-，-{|電腦}-，-{X|電腦}-，-{甲|乙|電}-，-{}-。",
        {
            "zh-hans": "zh-cn:甲;zh-tw:乙，電腦，電腦，電腦，電腦，乙|電，。",
            "zh-tw": "zh-cn:甲;zh-tw:乙，電腦，電腦，電腦，電腦，乙|電，。",
        },
    ),
    (
        "-{N|zh-cn}-、-{N| zh-hk }-、-{N|xx}-；-{D|zh-cn:甲;zh-tw:乙}-；-{D|丙=>zh-cn:甲;}-",
        {
            "zh-cn": "大陆、香港、；大陆：甲；臺灣：乙；；丙⇒大陆：甲；",
            "zh-tw": "大陆、香港、；大陆：甲；臺灣：乙；；丙⇒大陆：甲；",
        },
    ),
    (
        "-{zh-hans;zh-hant|軟件}-，-{zh-tw|軟件}-，-{zh-hans|軟件}-。",
        {"zh-cn": "软件，軟件，软件。", "zh-hk": "軟件，軟件，軟件。"},
    ),
    (
        "-{H|后里}-后里在臺中，-{A|干}-，干、乾杯，-{H|著}-看著。",
        {"zh-hant": "后里在臺中，干，干、乾杯，看著。", "zh-hans": "后里在台中，干，干、干杯，看著。"},
    ),
    (
        "-{zh-hans:[[生物信息学|信息学]];zh-hant:[[生物資訊學|資訊學]]}-、-{[[軟體]]}-、[[甲|-{zh-hans:信息;zh-hant:資訊}-]]、"
        "[[-{zh-hans:文件;zh-hant:檔案}-]]。",
        {"zh-hans": "信息学、軟體、信息、文件。", "zh-hant": "資訊學、軟體、資訊、檔案。"},
    ),
    (
        "-{zh-hans:{{lang|en|Bluetooth}}技术;zh-hant:{{nowrap|藍牙 技術}}}-，"
        '-{zh-hans:<span style="color:red;font-size:90%">红</span>&nbsp;色;zh-hant:<b>紅</b>&amp;色;}-',
        {"zh-hans": "Bluetooth技术，红 色", "zh-hant": "藍牙 技術，紅&色"},
    ),
    (
        "-{zh-hans:网址：http://a.cn/b;c:d 与时间12:30;zh-hant:網址}-，"
        "-{zh-hans:一;二;三;zh-hant:四}-，-{\n zh-hans : 甲 ;\n zh-hant : 乙 ;\n}-",
        {"zh-hans": "网址：http://a.cn/b;c:d 与时间12:30，一;二;三，甲", "zh-hant": "網址，四，乙"},
    ),
    (
        "外-{zh-hans:内-{zh-cn:甲;zh-tw:乙}-内;zh-hant:裡}-外，-{A|zh-cn:-{丙}-;zh-tw:丁}-丁，-{壹-{貳-{叁}-}-}-。",
        {"zh-cn": "外内甲内外，丙丙，壹貳叁。", "zh-tw": "外裡外，丁丁，壹貳叁。"},
    ),
    (
        "-{zh-cn:;zh-tw:的}-書，-{zh-cn:-;zh-tw:的}-書，-{zh-tw:乙;zh-hk:丙}-，-{zh-foo:電腦;zh-cn:甲}-，-{zh-hans：電；zh-hant：腦}-",
        {"zh-cn": "书，-书，乙，zh-foo:電腦;zh-cn:甲，zh-hans：電；zh-hant：腦"},
    ),
    (
        "-{zh-Hans:甲;ZH-HANT:乙}-，-{zh-Hans-CN:丙;zh-Hant-TW:丁}-，-{zh:原;zh-hant:繁}-",
        {"zh-cn": "甲，丙，原", "zh-tw": "乙，丁，繁", None: "甲，丙，原"},
    ),
    (
        "== -{zh-hans:软件;zh-hant:軟體}-史 ==\n* '''-{zh-hans:甲;zh-hant:乙}-'''：一\n"
        ": -{電}-\n-{zh-hans:\n* 丙\n* 丁\n;zh-hant:\n# 戊\n}-\n後",
        {
            "zh-hans": "## 软件史\n\n- 甲：一\n電\n\n- 丙\n- 丁\n后",
            "zh-hant": "## 軟體史\n\n- 乙：一\n電\n\n- 戊\n後",
        },
    ),
    (
        "甲\n\n-{H|zh-cn:子;zh-tw:丑}-\n\n乙\n\n== 空 ==\n-{H|zh-cn:寅;zh-tw:卯}-\n\n== 滿 ==\n丑卯",
        {"zh-cn": "甲\n\n乙\n\n## 满\n\n子寅", "zh-tw": "甲\n\n乙\n\n## 滿\n\n丑卯"},
    ),
    (
        "{{nowrap|-{zh-hans:甲|乙;zh-hant:丙}-}}，[[File:a.jpg|thumb|-{A|zh-hans:丁;zh-hant:戊}-]]戊，"
        "-{電<nowiki>}-</nowiki>電<code>電</code>電}-電。",
        {"zh-hans": "丙，丁，電}-電電電电。", "zh-hant": "丙，戊，電}-電電電電。"},
    ),
    ("一-{二 [[三|四]] ''五''\n六", {"zh-hans": "一二 四 五\n六"}),
    ("a }- b，-- {c}-，{-d-}。", {"zh-hans": "a }- b，-- {c}-，{-d-}。"}),
    # What is not converted
    (
        "電腦<nowiki>電腦 -{甲|乙}-</nowiki>，<code>電腦</code>，<math>\\text{電}_1</math>。\n"
        "<pre>\n電腦 ''x''\n</pre>",
        {
            "zh-hans": "电脑電腦 -{甲|乙}-，電腦，$\\text{電}_1$。\n\n電腦 ''x''",
            "zh-hant": "電腦電腦 -{甲|乙}-，電腦，$\\text{電}_1$。\n\n電腦 ''x''",
        },
    ),
    (
        "__NOCC__繁體「電腦」與简体“电脑”並列。-{zh-hans:甲;zh-hant:乙}-",
        {"zh-hans": "繁體「電腦」與简体“电脑”並列。甲", "zh-hant": "繁體「電腦」與简体“电脑”並列。乙"},
    ),
    (
        "日語「{{lang|ja|図書館}}」（{{lang|ja|「駅」と「会社」}}）、{{jap|発電所}}，與中文「圖書館」。",
        {"zh-hans": "日语“図書館”（「駅」と「会社」）、発電所，与中文“图书馆”。"},
    ),
    # NoteTA and title
    (
        "{{noteTA|T=zh-hans:雷霆;zh-hant:雷光;|1=zh-cn:激光;zh-tw:雷射;zh-hk:激光|2=镭射=>zh-cn:激光;|3=种|G1=Physics|d1=說明}}"
        "雷射與激光，镭射，种樹。",
        {"zh-cn": "激光与激光，激光，种树。", "zh-tw": "雷射與雷射，鐳射，种樹。", "zh-hk": "激光與激光，鐳射，种樹。"},
    ),
    (
        "{{NoteTA|zh-cn:信息; zh-tw:資訊;}}\n{{NoteTA\n|1=zh-hans:遥感;zh-hant:遙測\n}}\n'''資訊'''與遙測。",
        {"zh-hans": "信息与遥感。", "zh-tw": "資訊與遙測。"},
    ),
    # Helpers for what exists in other wikis only, and brackets left empty
    (
        "{{link-en|維克多·雨果|Victor Hugo}}、{{le|電影發行|Film distribution|發行}}、{{tsl|en|Foo|富}}、"
        "{{internal link helper/en|甲乙|A B}}，'''丙'''"
        "（{{拼音|bǐng}}{{不明模板}}），{{fact}}丁{{來源請求|time=2020}}。",
        {"zh-hans": "维克多·雨果、发行、富、甲乙，丙（bǐng），丁。"},
    ),
    (
        "'''某地'''（[[英語]]：{{lang|en|Place}}；{{IPA-en|pleɪs}}；{{audio|a.ogg|聽}}）有{{formatnum:1234567}}人{{efn|註}}。",
        {"zh-hans": "某地（英语：Place）有1,234,567人。"},
    ),
    # Lists, tables, files, poems, quotations, headings
    (
        "== 歷史 ==\n[[File:a.jpg|thumb|圖說：[[甲]]與-{zh-hans:乙;zh-hant:丙}-]]\n"
        '{| class="wikitable"\n! 年 !! 事\n|-\n| 1 || 二\n|}\n'
        "正文。\n\n=== 近代 ===\n* [[甲]]：第一\n** 乙\n# 丙\n: 縮排\n; 詞\n: 義\n\n"
        "== 參考資料 ==\n{{reflist}}\n\n== 外部連結 ==\n* [http://a.tw 官網]\n",
        {
            "zh-hans": "## 历史\n\n正文。\n\n### 近代\n\n- 甲：第一\n- 乙\n- 丙\n缩排\n词\n义\n\n## 外部连结\n\n- 官网",
        },
    ),
    (
        "《靜夜》：\n<poem>\n窗前看月色，\n　　夢裡到家鄉。\n</poem>\n全詩二十字。",
        {
            "zh-hans": "《静夜》：\n\n窗前看月色，\n梦里到家乡。\n\n全诗二十字。",
            "zh-hant": "《靜夜》：\n\n窗前看月色，\n夢裡到家鄉。\n\n全詩二十字。",
        },
    ),
    (
        "他說過：\n{{quote|學問是『做』出來的，不是『讀』出來的。|某教授|《講演集》}}\n<blockquote>第二段引文，含[[連結]]。</blockquote>\n後來又說「不然」。",
        {
            "zh-hans": "他说过：\n\n学问是‘做’出来的，不是‘读’出来的。\n\n— 某教授, 《讲演集》\n\n"
            "第二段引文，含连结。\n\n后来又说“不然”。",
        },
    ),
    (
        "<gallery>\nFile:a.jpg|圖一\n</gallery>[[文件:b.png|縮圖|說明]][[檔案:c.svg]][[Image:d.gif|左]][[圖像:e.jpg|右]]正文"
        "[[:文件:f.png|檔案頁]][[媒體:g.ogg|聽]]。",
        {"zh-hans": "正文档案页听。"},
    ),
    (
        "設<math>a+b</math>為{{mvar|n}}，"
        "若<math>x\\in\\mathbb{R}</math>則{{math|''x''<sup>2</sup> ≥ 0}}；水為H<sub>2</sub>O。",
        {"zh-hans": "设$a+b$为n，若$x\\in\\mathbb{R}$则x² ≥ 0；水为H₂O。"},
    ),
    (
        "{{ruby|漢|ㄏㄢˋ}}{{ruby|字|ㄗˋ}}注音，<ruby>北<rp>(</rp><rt>běi</rt><rp>)</rp></ruby>京拼音。",
        {"zh-hans": "汉(ㄏㄢˋ)字(ㄗˋ)注音，北(běi)京拼音。"},
    ),
    # Punctuation, widths, spaces
    (
        "全形ＡＢＣ１２３，半形ABC123；《書名》〈篇名〉——破折號……「引『內』引」·間隔號～連接號－、100％與50%，（括號）(paren)。",
        {
            "zh-hans": "全形ＡＢＣ１２３，半形ABC123；《书名》〈篇名〉——破折号……"
            "“引‘内’引”·间隔号～连接号－、100％与50%，（括号）(paren)。",
            "zh-hant": "全形ＡＢＣ１２３，半形ABC123；《書名》〈篇名〉——破折號……"
            "「引『內』引」·間隔號～連接號－、100％與50%，（括號）(paren)。",
        },
    ),
    (
        "“外‘内’外”，O’Brien说‘It’s’，the students’ 与 Xi’an。",
        {
            "zh-hans": "“外‘内’外”，O’Brien说‘It’s’，the students’ 与 Xi’an。",
            "zh-tw": "「外『內』外」，O’Brien說『It’s』，the students’ 與 Xi’an。",
        },
    ),
    ("甲　乙\u3000丙&nbsp;丁&#12288;戊\u200b己", {"zh-hans": "甲　乙　丙 丁　戊己"}),
    ("ｱｲｳ㈱①Ⅳ㎏ﬁ神ﾊﾟe\u0301", {"zh-hans": "ｱｲｳ㈱①Ⅳ㎏ﬁ神ﾊﾟé"}),
    # Characters with several counterparts
    (
        "頭髮發現後，皇后在後面，乾隆喝乾了，幹活的樹幹，面向麵包，萬里裡程，鬆開松樹。",
        {"zh-hans": "头发发现后，皇后在后面，乾隆喝干了，干活的树干，面向面包，万里里程，松开松树。"},
    ),
    (
        "头发发现后，皇后在后面，乾隆干杯，树干，面包，里面，松树，一只，台湾，软件。",
        {
            "zh-hant": "頭髮發現後，皇后在後面，乾隆乾杯，樹幹，麪包，裏面，松樹，一隻，臺灣，軟件。",
            "zh-tw": "頭髮發現後，皇后在後面，乾隆乾杯，樹幹，麵包，裡面，松樹，一隻，臺灣，軟件。",
            "zh-hk": "頭髮發現後，皇后在後面，乾隆乾杯，樹幹，麪包，裏面，松樹，一隻，台灣，軟件。",
        },
    ),
    (
        "他看著著名的著作，隨著原著者著手編著，顯著地藉著土著的專著，某某著《書》（某某著），著有三書。",
        {"zh-hans": "他看着著名的著作，随着原著者着手编著，显著地藉着土著的专著，某某著《书》（某某著），著有三书。"},
    ),
]
CASES = [(wikitext, variant, text) for wikitext, shown in PASSAGES for variant, text in shown.items()]


@pytest.mark.parametrize(("wikitext", "variant", "expected"), CASES)
def test_passage(wikitext: str, variant: str | None, expected: str) -> None:
    assert read(wikitext, variant).text == expected


@pytest.mark.parametrize(
    ("wikitext", "variant", "expected"),
    [
        ("正文", "zh-tw", "頭髮"),
        ("-{T|zh-cn:甲;zh-tw:乙}-正文", "zh-cn", "甲"),
        ("-{T|zh-cn:甲;zh-tw:乙}-正文", "zh-hk", "乙"),
        ("-{T|zh-cn:甲;zh-tw:乙}-正文-{A;T|zh-cn:丙;zh-tw:丁}-", "zh-cn", "丙"),
        ("-{T|頭髮}-", "zh-cn", "頭髮"),
        ("-{T|zh-cn:甲;zh-tw:乙}-", None, "头发"),
        ("-{T|zh:原;zh-tw:乙}-", None, "原"),
        ("-{T|[[甲|''乙'']]&amp;丙}-", "zh-cn", "乙&丙"),
        ("{{NoteTA|T=zh-cn:甲;zh-tw:乙;}}", "zh-tw", "乙"),
        ("{{NoteTA|1=zh-cn:头发;zh-tw:毛髮;}}正文", "zh-tw", "毛髮"),
        ("-{A|zh-cn:头发;zh-tw:毛髮;}-正文-{-|zh-cn:头发;zh-tw:毛髮;}-", "zh-tw", "頭髮"),
        ("__NOTITLECONVERT__正文", "zh-tw", "头发"),
        ("__NOCC__正文", "zh-tw", "頭髮"),
        ("__不轉換標題__正文", "zh-tw", "头发"),
    ],
)
def test_title(wikitext: str, variant: str | None, expected: str) -> None:
    assert read(wikitext, variant, title="头发").title == expected


PERSON = """{{NoteTA
|G1=Politics
|1=zh-cn:撒切尔;zh-tw:柴契爾;zh-hk:戴卓爾;
}}
{{Infobox officeholder
| name = 柴契爾夫人
| 國籍 = {{flagicon|GBR}} [[英國]]
| 政黨 = [[保守黨 (英國)|保守黨]]
| 學歷 = [[牛津大學]]<br>[[化學]]-{zh-hans:学士;zh-hant:學士}-
| 配偶 = [[丹尼斯·柴契爾]]{{small|（1951年結婚）}}
| 圖片 = a.jpg
}}
'''柴契爾夫人'''，英國[[首相]]。
[[分類:英國首相|柴]][[Category:1925年出生]][[分类:保守黨人物]][[en:Margaret]]"""


def test_infobox_categories_and_text_of_a_person() -> None:
    article = read(PERSON, "zh-hk", title="柴契爾夫人")
    assert article.title == "戴卓爾夫人"
    assert article.text == "戴卓爾夫人，英國首相。"
    assert article.categories == ("英國首相", "1925年出生", "保守黨人物")
    assert article.langlinks == (("en", "Margaret"),)
    facts = dict(article.facts)
    assert facts["國籍"] == "英國"
    assert facts["政黨"] == "保守黨"
    assert facts["學歷"] == "牛津大學、化學學士"
    assert facts["配偶"] == "丹尼斯·戴卓爾（1951年結婚）"
    assert not any("圖片" in key for key in facts)


def test_a_rule_in_an_infobox_holds_for_the_text() -> None:
    wikitext = "前部落格{{Infobox x|a=-{A|zh-cn:博客;zh-tw:部落格}-|b=c}}部落格-{A|zh-cn:甲;zh-tw:乙}-乙部落格"
    assert read(wikitext).text == "前博客博客甲甲博客"


@pytest.mark.parametrize(
    "wikitext",
    [
        "#重定向 [[目標頁面]]",
        "#重定向: [[目標頁面]]",
        "#重新導向 [[目標頁面#章節|顯示]]",
        "#REDIRECT[[目標頁面]]",
        "#redirect [[:目標頁面]]{{簡繁重定向}}",
        " \n#Redirect  [[目標頁面]]\n[[分類:重定向]]",
    ],
)
def test_redirects(wikitext: str) -> None:
    assert read(wikitext, title="甲").redirect == "目標頁面"


@pytest.mark.parametrize(
    "template", ["消歧义", "消歧義", "Disambig", "disambiguation", "人名消歧义", "地名消歧義", "消歧义页"]
)
def test_disambiguation_templates(template: str) -> None:
    article = read(f"'''甲'''可以指：\n* [[甲 (一)]]：一\n* [[甲 (二)|二]]\n{{{{{template}}}}}")
    assert article.disambiguation
    assert article.text == "甲可以指：\n- 甲 (一)：一\n- 二"


def test_parse_rule() -> None:
    assert parse_rule("zh-cn:a;zh-tw:b") == ({"zh-cn": "a", "zh-tw": "b"}, [])
    assert parse_rule("zh-cn:a;zh-cn:b") == ({"zh-cn": "b"}, [])
    assert parse_rule("x=>zh-cn:y; z => zh-tw : ;") == ({}, [("x", "zh-cn", "y"), ("z", "zh-tw", "")])
    assert parse_rule("text") == parse_rule("a:b") == parse_rule("xx:a;zh-cn:b") == parse_rule("") == ({}, [])
    assert parse_rule("sr-ec:Ћ;sr-Latn:Ć") == ({"sr-ec": "Ћ", "sr-el": "Ć"}, [])


@pytest.mark.parametrize(
    ("lang", "wikitext", "expected"),
    [
        ("sr", "-{sr-ec:Ниш;sr-el:Niš}-, -{A|sr:а;sr-el:b}- и -{R|текст}-, -{писмо|x}-", "Ниш, а и текст, x"),
        ("sh", "-{sh-latn:Beograd;sh-cyrl:Београд}-", "Beograd"),
        ("kk", "-{kk-cyrl:Қазақ;kk-latn:Qazaq;kk-arab:قازاق}-", "Қазақ"),
        ("gan", "-{gan-hans:赣;gan-hant:贛}-語", "赣語"),
        ("iu", "-{ike-cans:ᐃ;ike-latn:i}-", "ᐃ"),
        ("ug", "ئۇيغۇر -{x}-", "ئۇيغۇر -{x}-"),
        ("en", "-{A|zh-cn:a;zh-tw:b}-", "-{A|zh-cn:a;zh-tw:b}-"),
    ],
)
def test_other_wikis_with_and_without_variants(lang: str, wikitext: str, expected: str) -> None:
    assert clean_wikitext(wikitext, lang=lang, variant="zh-hans") == expected


def test_text_that_is_traditional_is_not_read_as_simplified() -> None:
    """Each line is judged by the characters that only one of the scripts has."""
    convert = converter("zh-tw")
    assert convert is not None
    traditional = "國家具有征服坂里村的歷史，加布里埃爾與王世杰了解后里。"
    assert convert(traditional) == traditional
    assert convert("国家的后面有里程，长征。\n" + traditional) == "國家的後面有里程，長征。\n" + traditional
    assert convert("里面") == "裡面"
    assert convert("這學术在裏面") == "這學術在裡面"


def test_widths_and_punctuation_stay_but_quotation_marks_follow_the_script() -> None:
    kept = "，。！？；：、（）［］｛｝《》〈〉【】—…·～％＃＆＠ＡＺ０９ａ　-,.!?;:()[]{}<>'\"%#&@AZ09a"
    for variant in FALLBACKS:
        assert read(f"文{kept}文", variant).text == f"文{kept}文"
    assert read("「甲『乙』」“丙‘丁’”", "zh-my").text == "“甲‘乙’”“丙‘丁’”"
    assert read("「甲『乙』」“丙‘丁’”", "zh-mo").text == "「甲『乙』」「丙『丁』」"
    assert read("「甲『乙』」“丙‘丁’”", None).text == "「甲『乙』」“丙‘丁’”"


PIECES = [
    *["-{", "}-", "|", ";", ":", "=>", "A", "H", "T", "R", "N", "D", "-", "S", "zh-cn:", "zh-tw:", "zh-hans:", "zh:"],
    *[
        "zh-xx:",
        "甲",
        "乙丙",
        "部落格",
        "著",
        " ",
        "\n",
        "&nbsp;",
        "[[",
        "]]",
        "{{",
        "}}",
        "{{!}}",
        "{{NoteTA|1=",
        "<b>",
    ],
    *["</b>", "<nowiki>", "</nowiki>", "<code>", "</code>", "__NOCC__", "“", "」", "‘", "’"],
    *["-{A|zh-cn:甲;zh-tw:乙}-", "-{-|zh-cn:甲;zh-tw:乙}-"],
]
_MARKUP = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@settings(max_examples=250, deadline=None)
@given(_MARKUP, st.sampled_from([None, "zh-hans", "zh-tw", "zh-hk"]))
def test_any_markup_is_read_and_leaves_no_marks(text: str, variant: str | None) -> None:
    article = read(text, variant, title="甲")
    for shown in (article.text, article.title, *article.categories, *(part for fact in article.facts for part in fact)):
        assert not set(shown) & set(map(chr, [*range(9), *range(11, 32), 127]))


@settings(max_examples=150, deadline=None)
@given(_MARKUP)
def test_rules_are_read_whatever_they_hold(text: str) -> None:
    texts, one_way = parse_rule(text)
    assert all(code in {"zh", "zh-cn", "zh-tw", "zh-hans"} for code in (*texts, *(code for _, code, _ in one_way)))
    rules = Rules("zh-cn")
    assert bool(rules.note(text)) == bool(rules.changes)


_PROSE = st.text(
    st.sampled_from("國国頭头发發後后里裡裏台臺著着乾干幹面麵麪於于「」『』“”‘’，。Aa1 \n學学電电腦脑隻只征徵範范"),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(_PROSE, st.sampled_from(sorted(FALLBACKS)))
def test_converting_twice_changes_nothing_more(text: str, variant: str) -> None:
    convert = converter(variant)
    assert convert is not None
    once = convert(f"国学电车{text}")  # enough to tell the script by
    assert convert(once) == once
    assert once.count("\n") == text.count("\n")


def _seconds(text: str) -> float:
    start = time.perf_counter()
    clean_wikitext(text, lang="zh", variant="zh-cn")
    return time.perf_counter() - start


def test_two_thousand_rules_on_a_long_page() -> None:
    rules = "".join(f"-{{H|zh-cn:词{i}甲;zh-tw:詞{i}乙}}-" for i in range(2000))
    page = rules + "文詞12乙字詞1999乙，詞詞詞。" * 60_000  # a million characters
    assert clean_wikitext(page, lang="zh", variant="zh-cn").startswith("文词12甲字词1999甲，词词词。")
    assert min(_seconds(page) for _ in range(2)) < 5


@pytest.mark.parametrize(
    "unit",
    [
        "-{A|",
        "-{A|zh-cn:甲",
        "-{H|a=>",
        "-{A|;  ;",
        "-{}-",
        "-{zh-cn:-{",
        "-{A|zh-cn:甲;zh-tw:乙丙}-乙",
        "-{-|zh-cn:甲;zh-tw:乙}-",
        "&amp;;",
        "‘a’b",
        "「",
    ],
)
def test_time_is_linear(unit: str) -> None:
    """Quadratic behaviour would take minutes at this size."""
    for close in ("", "}-"):
        small, large = (unit * (size // len(unit)) for size in (20_000, 80_000))
        small, large = (text + close * (text.count("-{") - text.count("}-")) for text in (small, large))
        assert min(_seconds(large) for _ in range(2)) < 12 * min(_seconds(small) for _ in range(3)) + 0.3
