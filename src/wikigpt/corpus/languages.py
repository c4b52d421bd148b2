"""Words that wikis write in their own language: namespaces, redirects, magic words, names of languages."""

import re


def words(text: str) -> frozenset[str]:
    """The words of a long string as a set; `_` in them stands for a space."""
    return frozenset(word.replace("_", " ") for word in text.split())


# Used where the dump's siteinfo does not say (it lists a wiki's own names, but not the English ones and
# aliases, which work everywhere). Lower case.
FILE_NAMESPACES = words(
    """file image 文件 档案 檔案 图像 圖像 图片 圖片 ファイル 画像 파일 그림
    datei bild fichier archivo imagen ficheiro arquivo imagem immagine bestand afbeelding plik grafika файл
    изображение зображення картинка tập_tin hình fil billede tiedosto kuva soubor obrázok súbor fájl kép fișier
    imagine datoteka slika датотека слика αρχείο εικόνα קובץ תמונה ملف صورة پرونده تصویر चित्र dosya resim berkas
    gambar fitxer imatge fitxategi dosiero vaizdas attēls attēlys fails pilt fails fail mynd ไฟล์ ภาพ
    պատկեր სურათი выява fíl fayl 檔 talaksan larawan restr skeudenn ìomhaigh delwedd"""
)
CATEGORY_NAMESPACES = words(
    """category 分类 分類 カテゴリ 분류 kategorie catégorie categoría categoria categorie kategoria категория
    категорія thể_loại kategori luokka kategória kategória categorie kategorija категорија κατηγορία קטגוריה
    تصنيف رده श्रेणी kategori kategorio kategorija kategorizācija kategoreja kategooria flokkur หมวดหมู่ կատեգորիա
    კატეგორია катэгорыя flokkur kateqoriya rummad زمرہ"""
)
REDIRECT = re.compile(
    r"\s*#\s*(?:redirect|重定向|重新導向|転送|リダイレクト|넘겨주기|weiterleitung|redirection|redirección|"
    r"redirecionamento|rinvia|doorverwijzing|patrz|przekieruj|перенаправление|перенапр|перенаправлення|đổi|"
    r"omdirigering|ohjaus|uudelleenohjaus|presmeruj|přesměruj|átirányítás|redirecteaza|yönlendirme|alih|"
    r"تحويل|تغییر_مسیر|הפניה|пренасочване|виж|preusmjeri|преусмери|ανακατευθυνση)\s*:?\s*\[\[([^\[\]|]+)",
    re.IGNORECASE,
)

# Double-underscore switches (__NOTOC__, __无目录__, …): upper-case letters or a few ideographs.
MAGIC_WORD = re.compile(r"__(?:[A-ZÄÖÜÉÈ]{3,30}|[\u3040-\u30ff\u4e00-\u9fff]{2,12}|[А-ЯЁ_]{4,40})__")

DISAMBIGUATION_TEMPLATES = words(
    """disambig disambiguation dab disamb dbig hndis geodis geo-dis disambig-cleanup hospitaldis schooldis numberdis
    mathdab chemdis letter-number_combination_disambiguation disambiguation_page
    消歧义 消歧義 消歧义页 消歧義頁 消歧義页 同名 人名消歧义 人名消歧義 地名消歧义 地名消歧義 重定向消歧义
    aimai 曖昧さ回避 aimai_dai 人名の曖昧さ回避 地名の曖昧さ回避 동음이의 begriffsklärung bkl homonymie désambiguïsation
    desambiguación desambiguacion desambiguação disambigua dp doorverwijspagina ujednoznacznienie неоднозначность
    многозначность неоднозначність định_hướng förgrening täsmennyssivu rozcestník rozlišovacia_stránka
    egyért dezambiguizare anlam_ayrımı disambiguasi desambiguació argipen apartigilo пояснение вишезначна одредница
    разделителна αποσαφήνιση פירושונים توضيح ابهام‌زدایی zeimeibu_škiršona disambigua nuorodinis täpsustuslehekülg
    flertydig flertydighed tvetydig apvienojums aðgreiningarsíða"""
)
DISAMBIGUATION_TITLE = re.compile(
    r"[ _]?[(（](?:disambiguation|消歧义|消歧義|曖昧さ回避|동음이의|Begriffsklärung|homonymie|desambiguación|"
    r"desambiguação|disambigua|doorverwijspagina|ujednoznacznienie|значения|значення)[)）]\Z"
)

# The codes of Wikipedia's languages; before a colon they mark an interlanguage link.
LANGUAGE_CODES = words(
    """aa ab ace ady af ak als alt am ami an ang anp ar arc ary arz as ast atj av avk awa ay az azb ba ban bar
    bat-smg bcl bdr be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bpy br bs btm bug bxr ca cbk-zam cdo ce ceb
    ch cho chr chy ckb co cr crh cs csb cu cv cy da dag de dga din diq dsb dtp dty dv dz ee el eml en eo es et eu
    ext fa fat ff fi fiu-vro fj fo fon fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor got gpe gsw gu guc gur
    guw gv ha hak haw he hi hif ho hr hsb ht hu hy hyw hz ia iba id ie ig igl ii ik ilo inh io is it iu ja jam jbo jv
    ka kaa kab kbd kbp kcg kg kge ki kj kk kl km kn knc ko koi kr krc ks ksh ku kus kv kw ky la lad lb lbe lez lfn lg
    li lij lld lmo ln lo lrc lt ltg lv lzh mad mai map-bms mdf mg mh mhr mi min mk ml mn mni mnw mos mr mrj ms mt mus
    mwl my myv mzn na nah nan nap nds nds-nl ne new ng nia nl nn no nov nqo nr nrm nso nup nv ny oc olo om or os pa
    pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt pwn qu rm rmy rn ro roa-rup roa-tara rsk ru rue rup rw sa
    sah sat sc scn sco sd se sg sgs sh shi shn si simple sk skr sl sm smn sn so sq sr srn ss st stq su sv sw syl szl
    szy ta tay tcy tdd te tet tg th ti tig tk tl tly tn to tpi tr trv ts tt tum tw ty tyv udm ug uk ur uz ve vec vep
    vi vls vo vro wa war wo wuu xal xh xmf yi yo yue za zea zgh zh zh-classical zh-min-nan zh-yue zu"""
)

# Name of each language in English and in Chinese, as the `lang-xx` templates show it.
LANGUAGE_NAMES: dict[str, tuple[str, str]] = {
    "ab": ("Abkhaz", "阿布哈兹语"),
    "af": ("Afrikaans", "南非语"),
    "am": ("Amharic", "阿姆哈拉语"),
    "ang": ("Old English", "古英语"),
    "ar": ("Arabic", "阿拉伯语"),
    "arc": ("Aramaic", "阿拉米语"),
    "az": ("Azerbaijani", "阿塞拜疆语"),
    "be": ("Belarusian", "白俄罗斯语"),
    "bg": ("Bulgarian", "保加利亚语"),
    "bn": ("Bengali", "孟加拉语"),
    "bo": ("Tibetan", "藏语"),
    "br": ("Breton", "布列塔尼语"),
    "bs": ("Bosnian", "波斯尼亚语"),
    "ca": ("Catalan", "加泰罗尼亚语"),
    "cs": ("Czech", "捷克语"),
    "cy": ("Welsh", "威尔士语"),
    "da": ("Danish", "丹麦语"),
    "de": ("German", "德语"),
    "el": ("Greek", "希腊语"),
    "en": ("English", "英语"),
    "eo": ("Esperanto", "世界语"),
    "es": ("Spanish", "西班牙语"),
    "et": ("Estonian", "爱沙尼亚语"),
    "eu": ("Basque", "巴斯克语"),
    "fa": ("Persian", "波斯语"),
    "fi": ("Finnish", "芬兰语"),
    "fr": ("French", "法语"),
    "ga": ("Irish", "爱尔兰语"),
    "gd": ("Scottish Gaelic", "苏格兰盖尔语"),
    "gl": ("Galician", "加利西亚语"),
    "grc": ("Ancient Greek", "古希腊语"),
    "gu": ("Gujarati", "古吉拉特语"),
    "he": ("Hebrew", "希伯来语"),
    "hi": ("Hindi", "印地语"),
    "hr": ("Croatian", "克罗地亚语"),
    "hu": ("Hungarian", "匈牙利语"),
    "hy": ("Armenian", "亚美尼亚语"),
    "id": ("Indonesian", "印尼语"),
    "is": ("Icelandic", "冰岛语"),
    "it": ("Italian", "意大利语"),
    "ja": ("Japanese", "日语"),
    "ka": ("Georgian", "格鲁吉亚语"),
    "kk": ("Kazakh", "哈萨克语"),
    "km": ("Khmer", "高棉语"),
    "ko": ("Korean", "韩语"),
    "ku": ("Kurdish", "库尔德语"),
    "ky": ("Kyrgyz", "柯尔克孜语"),
    "la": ("Latin", "拉丁语"),
    "lb": ("Luxembourgish", "卢森堡语"),
    "lo": ("Lao", "老挝语"),
    "lt": ("Lithuanian", "立陶宛语"),
    "lv": ("Latvian", "拉脱维亚语"),
    "mi": ("Māori", "毛利语"),
    "mk": ("Macedonian", "马其顿语"),
    "mn": ("Mongolian", "蒙古语"),
    "mr": ("Marathi", "马拉地语"),
    "ms": ("Malay", "马来语"),
    "mt": ("Maltese", "马耳他语"),
    "my": ("Burmese", "缅甸语"),
    "nah": ("Nahuatl", "纳瓦特尔语"),
    "ne": ("Nepali", "尼泊尔语"),
    "nl": ("Dutch", "荷兰语"),
    "no": ("Norwegian", "挪威语"),
    "oc": ("Occitan", "奥克语"),
    "pa": ("Punjabi", "旁遮普语"),
    "pl": ("Polish", "波兰语"),
    "ps": ("Pashto", "普什图语"),
    "pt": ("Portuguese", "葡萄牙语"),
    "ro": ("Romanian", "罗马尼亚语"),
    "ru": ("Russian", "俄语"),
    "sa": ("Sanskrit", "梵语"),
    "si": ("Sinhala", "僧伽罗语"),
    "sk": ("Slovak", "斯洛伐克语"),
    "sl": ("Slovene", "斯洛文尼亚语"),
    "so": ("Somali", "索马里语"),
    "sq": ("Albanian", "阿尔巴尼亚语"),
    "sr": ("Serbian", "塞尔维亚语"),
    "sv": ("Swedish", "瑞典语"),
    "sw": ("Swahili", "斯瓦希里语"),
    "ta": ("Tamil", "泰米尔语"),
    "te": ("Telugu", "泰卢固语"),
    "tg": ("Tajik", "塔吉克语"),
    "th": ("Thai", "泰语"),
    "tk": ("Turkmen", "土库曼语"),
    "tl": ("Tagalog", "他加禄语"),
    "tr": ("Turkish", "土耳其语"),
    "ug": ("Uyghur", "维吾尔语"),
    "uk": ("Ukrainian", "乌克兰语"),
    "ur": ("Urdu", "乌尔都语"),
    "uz": ("Uzbek", "乌兹别克语"),
    "vi": ("Vietnamese", "越南语"),
    "yi": ("Yiddish", "意第绪语"),
    "zh": ("Chinese", "汉语"),
    "zu": ("Zulu", "祖鲁语"),
}


def language_name(code: str, lang: str) -> str | None:
    """The name of language `code`, in Chinese for Chinese wikis and in English for English ones."""
    names = LANGUAGE_NAMES.get(code) or LANGUAGE_NAMES.get(code.partition("-")[0])
    if names is None or lang not in ("en", "simple", "zh"):
        return None
    return names[1] if lang == "zh" else names[0]


def capital(title: str) -> str:
    """A title as MediaWiki stores it: spaces for underscores, first letter in upper case."""
    title = " ".join(title.replace("_", " ").split())
    return title[:1].upper() + title[1:]


# Codes that are templates of their own, {{USA}}: the name in English and in Chinese.
_COUNTRIES = """AFG Afghanistan 阿富汗|ALB Albania 阿尔巴尼亚|ALG Algeria 阿尔及利亚|ARG Argentina 阿根廷|
ARM Armenia 亚美尼亚|AUS Australia 澳大利亚|AUT Austria 奥地利|AZE Azerbaijan 阿塞拜疆|
BAN Bangladesh 孟加拉国|BEL Belgium 比利时|BLR Belarus 白俄罗斯|BOL Bolivia 玻利维亚|BRA Brazil 巴西|
BUL Bulgaria 保加利亚|BGR Bulgaria 保加利亚|CAM Cambodia 柬埔寨|CAN Canada 加拿大|CHE Switzerland 瑞士|
CHI Chile 智利|CHL Chile 智利|CHN China 中国|PRC China 中华人民共和国|COL Colombia 哥伦比亚|
CRO Croatia 克罗地亚|HRV Croatia 克罗地亚|CUB Cuba 古巴|CZE Czech_Republic 捷克|DEN Denmark 丹麦|
DNK Denmark 丹麦|DEU Germany 德国|GER Germany 德国|ECU Ecuador 厄瓜多尔|EGY Egypt 埃及|ESP Spain 西班牙|
EST Estonia 爱沙尼亚|ETH Ethiopia 埃塞俄比亚|FIN Finland 芬兰|FRA France 法国|GBR United_Kingdom 英国|
UK United_Kingdom 英国|ENG England 英格兰|SCO Scotland 苏格兰|WAL Wales 威尔士|GEO Georgia 格鲁吉亚|
GHA Ghana 加纳|GRE Greece 希腊|GRC Greece 希腊|HKG Hong_Kong 香港|HUN Hungary 匈牙利|ISL Iceland 冰岛|
IND India 印度|IDN Indonesia 印度尼西亚|IRI Iran 伊朗|IRN Iran 伊朗|IRQ Iraq 伊拉克|IRL Ireland 爱尔兰|
ISR Israel 以色列|ITA Italy 意大利|JPN Japan 日本|KAZ Kazakhstan 哈萨克斯坦|KEN Kenya 肯尼亚|
KOR South_Korea 韩国|PRK North_Korea 朝鲜|LAO Laos 老挝|LAT Latvia 拉脱维亚|LVA Latvia 拉脱维亚|
LTU Lithuania 立陶宛|LUX Luxembourg 卢森堡|MAC Macau 澳门|MAS Malaysia 马来西亚|MYS Malaysia 马来西亚|
MEX Mexico 墨西哥|MGL Mongolia 蒙古国|MNG Mongolia 蒙古国|MAR Morocco 摩洛哥|MYA Myanmar 缅甸|
MMR Myanmar 缅甸|NED Netherlands 荷兰|NLD Netherlands 荷兰|NEP Nepal 尼泊尔|NZL New_Zealand 新西兰|
NGA Nigeria 尼日利亚|NGR Nigeria 尼日利亚|NOR Norway 挪威|PAK Pakistan 巴基斯坦|PER Peru 秘鲁|
PHI Philippines 菲律宾|PHL Philippines 菲律宾|POL Poland 波兰|POR Portugal 葡萄牙|PRT Portugal 葡萄牙|
ROC Republic_of_China 中华民国|ROC-TW Taiwan 中华民国|ROM Romania 罗马尼亚|ROU Romania 罗马尼亚|
RUS Russia 俄罗斯|KSA Saudi_Arabia 沙特阿拉伯|SAU Saudi_Arabia 沙特阿拉伯|SRB Serbia 塞尔维亚|
SGP Singapore 新加坡|SIN Singapore 新加坡|SVK Slovakia 斯洛伐克|SLO Slovenia 斯洛文尼亚|
SVN Slovenia 斯洛文尼亚|RSA South_Africa 南非|ZAF South_Africa 南非|SRI Sri_Lanka 斯里兰卡|
SUI Switzerland 瑞士|SWE Sweden 瑞典|SYR Syria 叙利亚|TWN Taiwan 台湾|THA Thailand 泰国|
TUN Tunisia 突尼斯|TUR Turkey 土耳其|UAE United_Arab_Emirates 阿联酋|UGA Uganda 乌干达|UKR Ukraine 乌克兰|
URU Uruguay 乌拉圭|URY Uruguay 乌拉圭|USA United_States 美国|US United_States 美国|URS Soviet_Union 苏联|
SSR Soviet_Union 苏联|UZB Uzbekistan 乌兹别克斯坦|VEN Venezuela 委内瑞拉|VIE Vietnam 越南|
VNM Vietnam 越南|YUG Yugoslavia 南斯拉夫|ZIM Zimbabwe 津巴布韦|ZWE Zimbabwe 津巴布韦"""
COUNTRIES = {
    code: (english.replace("_", " "), chinese)
    for code, english, chinese in (entry.split() for entry in _COUNTRIES.split("|"))
}
