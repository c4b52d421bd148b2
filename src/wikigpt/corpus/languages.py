"""Words that wikis write in their own language: namespaces, redirects, magic words, names of languages."""

import re
from functools import cache


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
# The variants of Chinese, and where MediaWiki looks, in this order, for the text of each.
FALLBACKS: dict[str, tuple[str, ...]] = {
    "zh-hans": ("zh-hans", "zh-cn", "zh-sg", "zh-my"),
    "zh-cn": ("zh-cn", "zh-hans", "zh-sg", "zh-my"),
    "zh-sg": ("zh-sg", "zh-my", "zh-hans", "zh-cn"),
    "zh-my": ("zh-my", "zh-sg", "zh-hans", "zh-cn"),
    "zh-hant": ("zh-hant", "zh-tw", "zh-hk", "zh-mo"),
    "zh-tw": ("zh-tw", "zh-hant", "zh-hk", "zh-mo"),
    "zh-hk": ("zh-hk", "zh-mo", "zh-hant", "zh-tw"),
    "zh-mo": ("zh-mo", "zh-hk", "zh-hant", "zh-tw"),
}


DISAMBIGUATION_TEMPLATES = words(
    """disambig disambiguation dab disamb dbig hndis geodis geo-dis disambig-cleanup hospitaldis schooldis numberdis
    mathdab chemdis letter-number_combination_disambiguation disambiguation_page
    消歧义 消歧義 消歧义页 消歧義頁 消歧義页 同名 人名消歧义 人名消歧義 地名消歧义 地名消歧義 重定向消歧义
    aimai 曖昧さ回避 aimai_dai 人名の曖昧さ回避 地名の曖昧さ回避 동음이의 begriffsklärung bkl homonymie désambiguïsation
    desambiguación desambiguacion desambiguação disambigua dp doorverwijspagina ujednoznacznienie неоднозначность
    многозначность неоднозначність định_hướng förgrening täsmennyssivu rozcestník rozlišovacia_stránka
    egyért dezambiguizare anlam_ayrımı disambiguasi desambiguació argipen apartigilo пояснение вишезначна одредница
    разделителна αποσαφήνιση פירושונים توضيح ابهام‌زدایی zeimeibu_škiršona disambigua nuorodinis täpsustuslehekülg
    disambiguation_cleanup airport_disambiguation biology_disambiguation call_sign_disambiguation mil-unit-dis
    human_name_disambiguation place_name_disambiguation station_disambiguation taxonomy_disambiguation roaddis
    genus_disambiguation species_latin_name_disambiguation school_disambiguation hospital_disambiguation
    music_disambiguation church_disambiguation road_disambiguation letter_disambiguation sportdis shipindex
    姓氏消歧义 姓氏消歧義 字母数字组合消歧义 同名の人物 동음이의어 однофамильцы список_однофамильцев багатозначність
    неадназначнасць dpintro gren betydelselista peker täpsustus desambig homónimos razdvojba razločitev
    nuorodinis_straipsnis nozīmju_atdalīšana айрық მრავალმნიშვნელოვანი բազմիմաստություն dəqiqləşdirmə
    দ্ব্যর্থতা_নিরসন बहुविकल्पी แก้กำกวม
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
_LANGUAGE_NAMES = """
    ab Abkhaz 阿布哈兹语|af Afrikaans 南非语|akk Akkadian 阿卡德语|am Amharic 阿姆哈拉语|an Aragonese 阿拉贡语|
    ang Old_English 古英语|ar Arabic 阿拉伯语|arc Aramaic 阿拉米语|as Assamese 阿萨姆语|ast Asturian 阿斯图里亚斯语|
    az Azerbaijani 阿塞拜疆语|ba Bashkir 巴什基尔语|be Belarusian 白俄罗斯语|be-tarask Belarusian 白俄罗斯语|
    ber Berber 柏柏尔语|bg Bulgarian 保加利亚语|bho Bhojpuri 博杰普尔语|bn Bengali 孟加拉语|bo Tibetan 藏语|
    br Breton 布列塔尼语|bs Bosnian 波斯尼亚语|ca Catalan 加泰罗尼亚语|ce Chechen 车臣语|ceb Cebuano 宿务语|
    co Corsican 科西嘉语|cop Coptic 科普特语|cs Czech 捷克语|csb Kashubian 卡舒比语|cv Chuvash 楚瓦什语|
    cy Welsh 威尔士语|da Danish 丹麦语|de German 德语|deu German 德语|dsb Lower_Sorbian 下索布语|
    dv Dhivehi 迪维希语|dz Dzongkha 宗喀语|el Greek 希腊语|en English 英语|enm Middle_English 中古英语|
    eo Esperanto 世界语|es Spanish 西班牙语|et Estonian 爱沙尼亚语|eu Basque 巴斯克语|fa Persian 波斯语|
    fi Finnish 芬兰语|fil Filipino 菲律宾语|fo Faroese 法罗语|fr French 法语|fra French 法语|fro Old_French 古法语|
    fy West_Frisian 西弗里西亚语|ga Irish 爱尔兰语|gd Scottish_Gaelic 苏格兰盖尔语|gl Galician 加利西亚语|
    gn Guarani 瓜拉尼语|goh Old_High_German 古高地德语|got Gothic 哥特语|grc Ancient_Greek 古希腊语|
    gu Gujarati 古吉拉特语|gv Manx 马恩语|ha Hausa 豪萨语|hak Hakka 客家话|haw Hawaiian 夏威夷语|he Hebrew 希伯来语|
    hi Hindi 印地语|hr Croatian 克罗地亚语|hsb Upper_Sorbian 上索布语|hu Hungarian 匈牙利语|hy Armenian 亚美尼亚语|
    id Indonesian 印尼语|ig Igbo 伊博语|is Icelandic 冰岛语|it Italian 意大利语|ita Italian 意大利语|
    ja Japanese 日语|jpn Japanese 日语|jv Javanese 爪哇语|ka Georgian 格鲁吉亚语|kk Kazakh 哈萨克语|
    kl Greenlandic 格陵兰语|km Khmer 高棉语|kn Kannada 卡纳达语|ko Korean 韩语|kor Korean 韩语|
    ks Kashmiri 克什米尔语|ku Kurdish 库尔德语|kw Cornish 康沃尔语|ky Kyrgyz 柯尔克孜语|la Latin 拉丁语|
    lb Luxembourgish 卢森堡语|lmo Lombard 伦巴第语|lo Lao 老挝语|lt Lithuanian 立陶宛语|lv Latvian 拉脱维亚语|
    mai Maithili 迈蒂利语|mg Malagasy 马达加斯加语|mi Māori 毛利语|mk Macedonian 马其顿语|ml Malayalam 马拉雅拉姆语|
    mn Mongolian 蒙古语|mnc Manchu 满语|mr Marathi 马拉地语|ms Malay 马来语|mt Maltese 马耳他语|my Burmese 缅甸语|
    nah Nahuatl 纳瓦特尔语|nan Southern_Min 闽南语|nap Neapolitan 那不勒斯语|nds Low_German 低地德语|
    ne Nepali 尼泊尔语|nl Dutch 荷兰语|no Norwegian 挪威语|non Old_Norse 古诺斯语|nv Navajo 纳瓦霍语|
    oc Occitan 奥克语|or Odia 奥里亚语|os Ossetian 奥塞梯语|pa Punjabi 旁遮普语|pi Pali 巴利语|pl Polish 波兰语|
    pms Piedmontese 皮埃蒙特语|ps Pashto 普什图语|pt Portuguese 葡萄牙语|qu Quechua 克丘亚语|rm Romansh 罗曼什语|
    ro Romanian 罗马尼亚语|ru Russian 俄语|rue Rusyn 卢森尼亚语|rus Russian 俄语|sa Sanskrit 梵语|
    sat Santali 桑塔利语|sc Sardinian 萨丁尼亚语|scn Sicilian 西西里语|sco Scots 低地苏格兰语|sd Sindhi 信德语|
    sh Serbo-Croatian 塞尔维亚-克罗地亚语|si Sinhala 僧伽罗语|sk Slovak 斯洛伐克语|sl Slovene 斯洛文尼亚语|
    so Somali 索马里语|spa Spanish 西班牙语|sq Albanian 阿尔巴尼亚语|sr Serbian 塞尔维亚语|su Sundanese 巽他语|
    sux Sumerian 苏美尔语|sv Swedish 瑞典语|sw Swahili 斯瓦希里语|syc Syriac 叙利亚语|szl Silesian 西里西亚语|
    ta Tamil 泰米尔语|te Telugu 泰卢固语|tg Tajik 塔吉克语|th Thai 泰语|ti Tigrinya 提格里尼亚语|
    tk Turkmen 土库曼语|tl Tagalog 他加禄语|tr Turkish 土耳其语|tt Tatar 鞑靼语|tw Twi 契维语|ug Uyghur 维吾尔语|
    uk Ukrainian 乌克兰语|ur Urdu 乌尔都语|uz Uzbek 乌兹别克语|vec Venetian 威尼斯语|vi Vietnamese 越南语|
    wa Walloon 瓦隆语|xh Xhosa 科萨语|yi Yiddish 意第绪语|yo Yoruba 约鲁巴语|yue Cantonese 粤语|za Zhuang 壮语|
    zgh Amazigh 阿马齐格语|zh Chinese 汉语|zu Zulu 祖鲁语"""
LANGUAGE_NAMES: dict[str, tuple[str, str]] = {
    code: (english.replace("_", " "), chinese)
    for code, english, chinese in (entry.split() for entry in _LANGUAGE_NAMES.split("|"))
}
# Names on other wikis, as their `lang-xx` templates write them.
_OTHER_NAMES = {
    "de": """ar arabisch|bg bulgarisch|cs tschechisch|da dänisch|el griechisch|en englisch|es spanisch|et estnisch|
        fa persisch|fi finnisch|fr französisch|ga irisch|grc altgriechisch|he hebräisch|hi hindi|hr kroatisch|
        hu ungarisch|is isländisch|it italienisch|ja japanisch|ko koreanisch|la lateinisch|lt litauisch|lv lettisch|
        nl niederländisch|no norwegisch|pl polnisch|pt portugiesisch|ro rumänisch|ru russisch|sk slowakisch|
        sl slowenisch|sq albanisch|sr serbisch|sv schwedisch|tr türkisch|uk ukrainisch|vi vietnamesisch|
        zh chinesisch""",
    "fr": """ar arabe|bg bulgare|br breton|ca catalan|cs tchèque|da danois|de allemand|el grec|en anglais|es espagnol|
        et estonien|eu basque|fa persan|fi finnois|fr français|grc grec ancien|he hébreu|hi hindi|hr croate|hu hongrois|
        hy arménien|is islandais|it italien|ja japonais|ka géorgien|ko coréen|la latin|lt lituanien|lv letton|
        nl néerlandais|no norvégien|oc occitan|pl polonais|pt portugais|ro roumain|ru russe|sk slovaque|sl slovène|
        sq albanais|sr serbe|sv suédois|th thaï|tr turc|uk ukrainien|vi vietnamien|zh chinois""",
    "es": """an aragonés|ar árabe|ast asturiano|bg búlgaro|ca catalán|cs checo|da danés|de alemán|el griego|en inglés|
        es español|et estonio|eu euskera|fa persa|fi finés|fr francés|gl gallego|grc griego antiguo|he hebreo|hi hindi|
        hr croata|hu húngaro|hy armenio|is islandés|it italiano|ja japonés|ko coreano|la latín|lt lituano|lv letón|
        nl neerlandés|no noruego|oc occitano|pl polaco|pt portugués|ro rumano|ru ruso|sk eslovaco|sl esloveno|
        sq albanés|sr serbio|sv sueco|th tailandés|tr turco|uk ucraniano|vi vietnamita|zh chino""",
    "it": """ar arabo|bg bulgaro|ca catalano|cs ceco|da danese|de tedesco|el greco|en inglese|es spagnolo|et estone|
        fa persiano|fi finlandese|fr francese|grc greco antico|he ebraico|hi hindi|hr croato|hu ungherese|is islandese|
        it italiano|ja giapponese|ko coreano|la latino|lt lituano|lv lettone|nl olandese|no norvegese|pl polacco|
        pt portoghese|ro rumeno|ru russo|sk slovacco|sl sloveno|sq albanese|sr serbo|sv svedese|tr turco|uk ucraino|
        vi vietnamita|zh cinese""",
    "pt": """ar árabe|bg búlgaro|ca catalão|cs checo|da dinamarquês|de alemão|el grego|en inglês|es espanhol|
        et estoniano|eu basco|fa persa|fi finlandês|fr francês|gl galego|grc grego clássico|he hebraico|hi hindi|
        hr croata|hu húngaro|is islandês|it italiano|ja japonês|ko coreano|la latim|lt lituano|lv letão|nl neerlandês|
        no norueguês|pl polonês|pt português|ro romeno|ru russo|sk eslovaco|sl esloveno|sq albanês|sr sérvio|sv sueco|
        tr turco|uk ucraniano|vi vietnamita|zh chinês""",
    "nl": """ar Arabisch|bg Bulgaars|cs Tsjechisch|da Deens|de Duits|el Grieks|en Engels|es Spaans|fa Perzisch|fi Fins|
        fr Frans|fy Fries|grc Oudgrieks|he Hebreeuws|hi Hindi|hr Kroatisch|hu Hongaars|is IJslands|it Italiaans|
        ja Japans|ko Koreaans|la Latijn|lt Litouws|lv Lets|no Noors|pl Pools|pt Portugees|ro Roemeens|ru Russisch|
        sk Slowaaks|sl Sloveens|sq Albanees|sr Servisch|sv Zweeds|tr Turks|uk Oekraïens|vi Vietnamees|zh Chinees""",
    "ja": """ar アラビア語|bg ブルガリア語|ca カタルーニャ語|cs チェコ語|da デンマーク語|de ドイツ語|el ギリシア語|
        en 英語|eo エスペラント|es スペイン語|et エストニア語|eu バスク語|fa ペルシア語|fi フィンランド語|fr フランス語|
        ga アイルランド語|grc 古代ギリシア語|he ヘブライ語|hi ヒンディー語|hr クロアチア語|hu ハンガリー語|
        hy アルメニア語|id インドネシア語|is アイスランド語|it イタリア語|ja 日本語|ka グルジア語|ko 朝鮮語|la ラテン語|
        lt リトアニア語|lv ラトビア語|mn モンゴル語|ms マレー語|nl オランダ語|no ノルウェー語|pl ポーランド語|
        pt ポルトガル語|ro ルーマニア語|ru ロシア語|sa サンスクリット|sk スロバキア語|sl スロベニア語|sq アルバニア語|
        sr セルビア語|sv スウェーデン語|th タイ語|tr トルコ語|uk ウクライナ語|vi ベトナム語|zh 中国語""",
    "ko": """ar 아랍어|bg 불가리아어|cs 체코어|da 덴마크어|de 독일어|el 그리스어|en 영어|es 스페인어|fa 페르시아어|
        fi 핀란드어|fr 프랑스어|he 히브리어|hi 힌디어|hu 헝가리어|id 인도네시아어|it 이탈리아어|ja 일본어|ko 한국어|
        la 라틴어|mn 몽골어|nl 네덜란드어|no 노르웨이어|pl 폴란드어|pt 포르투갈어|ro 루마니아어|ru 러시아어|
        sv 스웨덴어|th 타이어|tr 튀르키예어|uk 우크라이나어|vi 베트남어|zh 중국어""",
    "ru": """ar араб.|az азерб.|be белор.|bg болг.|ca кат.|cs чеш.|da дат.|de нем.|el греч.|en англ.|eo эспер.|es исп.|
        et эст.|eu баск.|fa перс.|fi фин.|fr фр.|ga ирл.|grc др.-греч.|he ивр.|hi хинди|hr хорв.|hu венг.|hy арм.|
        id индон.|is исл.|it итал.|ja яп.|ka груз.|kk каз.|ko кор.|la лат.|lt лит.|lv латыш.|mn монг.|nl нидерл.|
        no норв.|pl польск.|pt порт.|ro рум.|sa санскр.|sk словацк.|sl словен.|sq алб.|sr серб.|sv швед.|th тайск.|
        tr тур.|tt тат.|uk укр.|uz узб.|vi вьетн.|zh кит.""",
    "uk": """ar араб.|be біл.|bg болг.|cs чеськ.|da дан.|de нім.|el грец.|en англ.|es ісп.|et ест.|fa перс.|fi фін.|
        fr фр.|grc дав.-гр.|he івр.|hr хорв.|hu угор.|it італ.|ja яп.|ka груз.|ko кор.|la лат.|lt лит.|lv латис.|
        nl нід.|no норв.|pl пол.|pt порт.|ro рум.|ru рос.|sk словац.|sl словен.|sr серб.|sv швед.|tr тур.|zh кит.""",
    "pl": """ar arab.|be biał.|bg bułg.|cs cz.|da duń.|de niem.|el gr.|en ang.|es hiszp.|et est.|fi fiń.|fr fr.|
        grc stgr.|he hebr.|hr chorw.|hu węg.|it wł.|ja jap.|ko kor.|la łac.|lt lit.|lv łot.|nl niderl.|no norw.|
        pt port.|ro rum.|ru ros.|sk słow.|sl słoweń.|sr serb.|sv szw.|tr tur.|uk ukr.|vi wiet.|zh chiń.""",
}  # fmt: skip
# What stands between such a name and the foreign word.
_LABELS = {
    "zh": "{}：", "de": "{} ", "ru": "{} ", "uk": "{} ", "pl": "{} ",
    "fr": "en {} : ", "es": "en {}: ", "it": "in {}: ", "pt": "em {}: ",
}  # fmt: skip


@cache
def names_in(lang: str) -> dict[str, str]:
    """The names of languages on the wiki of `lang`, by code; empty if we do not know them."""
    if lang in ("en", "simple", "zh"):
        return {code: names[lang == "zh"] for code, names in LANGUAGE_NAMES.items()}
    entries = (entry.strip().partition(" ") for entry in _OTHER_NAMES.get(lang, "").split("|"))
    return {code: name for code, _, name in entries if name}


def language_name(code: str, lang: str) -> str | None:
    """The name of language `code` (fr, fr-CA) on the wiki of `lang`."""
    names = names_in(lang)
    return names.get(code) or names.get(code.partition("-")[0])


def language_label(code: str, lang: str) -> str:
    """What the wiki of `lang` writes before a word in the language `code`: "French: ", "法语：", "фр. "; or ""."""
    name = language_name(code, lang)
    return _LABELS.get(lang, "{}: ").format(name) if name else ""


# What some languages call themselves ({{#language:fr}}).
_AUTONYMS = """
    ar العربية|bg български|ca català|cs čeština|da dansk|de Deutsch|el Ελληνικά|en English|
    eo Esperanto|es español|et eesti|eu euskara|fa فارسی|fi suomi|fr français|gl galego|he עברית|hi हिन्दी|
    hr hrvatski|hu magyar|
    hy հայերեն|id Bahasa Indonesia|is íslenska|it italiano|ja 日本語|ka ქართული|ko 한국어|la Latina|lt lietuvių|
    lv latviešu|ms Bahasa Melayu|nl Nederlands|no norsk|pl polski|pt português|ro română|ru русский|sk slovenčina|
    sl slovenščina|sr српски / srpski|sv svenska|th ไทย|tr Türkçe|uk українська|vi Tiếng Việt|zh 中文"""
AUTONYMS = dict(entry.strip().split(" ", 1) for entry in _AUTONYMS.split("|"))

# How numbers are written: sign between thousands, decimal sign, digits from which on thousands are set apart
# (MediaWiki's separatorTransformTable and minimumGroupingDigits).
NUMBER_STYLES: dict[str, tuple[str, str, int]] = {"en": (",", ".", 4)} | {
    lang: style
    for langs, style in (
        ("de da nl id tr el gl ro hr sr sl is vi it eu", (".", ",", 4)),
        ("fr", ("\u202f", ",", 4)),
        ("sv fi no nb nn cs sk hu lt lv et eo kk", ("\xa0", ",", 4)),
        ("ru uk be bg pl es pt", ("\xa0", ",", 5)),
        ("ca", (".", ",", 5)),
    )
    for lang in langs.split()
}


def capital(title: str) -> str:
    """A title as MediaWiki stores it: spaces for underscores, first letter in upper case."""
    title = " ".join(title.replace("_", " ").split())
    return title[:1].upper() + title[1:]


# Codes that are templates of their own, {{USA}}: the name in English and in Chinese (ISO 3166 with CLDR's names, and
# those that sports use).
_COUNTRIES = """
    ABW Aruba 阿鲁巴|AFG Afghanistan 阿富汗|AGO Angola 安哥拉|AIA Anguilla 安圭拉|ALA Åland_Islands 奥兰群岛|
    ALB Albania 阿尔巴尼亚|ALG Algeria 阿尔及利亚|AND Andorra 安道尔|ANG Angola 安哥拉|
    ARE United_Arab_Emirates 阿拉伯联合酋长国|ARG Argentina 阿根廷|ARM Armenia 亚美尼亚|
    ASC Ascension_Island 阿森松岛|ASM American_Samoa 美属萨摩亚|ATA Antarctica 南极洲|
    ATF French_Southern_Territories 法属南部领地|ATG Antigua_and_Barbuda 安提瓜和巴布达|AUS Australia 澳大利亚|
    AUT Austria 奥地利|AZE Azerbaijan 阿塞拜疆|BAN Bangladesh 孟加拉国|BDI Burundi 布隆迪|BEL Belgium 比利时|
    BEN Benin 贝宁|BES Caribbean_Netherlands 荷属加勒比区|BFA Burkina_Faso 布基纳法索|BGD Bangladesh 孟加拉国|
    BGR Bulgaria 保加利亚|BHR Bahrain 巴林|BHS Bahamas 巴哈马|BHU Bhutan 不丹|
    BIH Bosnia_and_Herzegovina 波斯尼亚和黑塞哥维那|BLM Saint_Barthélemy 圣巴泰勒米|BLR Belarus 白俄罗斯|
    BLZ Belize 伯利兹|BMU Bermuda 百慕大|BOL Bolivia 玻利维亚|BOT Botswana 博茨瓦纳|BRA Brazil 巴西|
    BRB Barbados 巴巴多斯|BRN Brunei 文莱|BRU Brunei 文莱|BTN Bhutan 不丹|BUL Bulgaria 保加利亚|
    BUR Burkina_Faso 布基纳法索|BVT Bouvet_Island 布韦岛|BWA Botswana 博茨瓦纳|
    CAF Central_African_Republic 中非共和国|CAM Cambodia 柬埔寨|CAN Canada 加拿大|
    CCK Cocos_(Keeling)_Islands 科科斯（基林）群岛|CGO Republic_of_the_Congo 刚果共和国|CHE Switzerland 瑞士|
    CHI Chile 智利|CHL Chile 智利|CHN China 中国|CIV Ivory_Coast 科特迪瓦|CMR Cameroon 喀麦隆|
    COD Democratic_Republic_of_the_Congo 刚果民主共和国|COG Republic_of_the_Congo 刚果共和国|
    COK Cook_Islands 库克群岛|COL Colombia 哥伦比亚|COM Comoros 科摩罗|CPT Clipperton_Island 克利珀顿岛|
    CPV Cape_Verde 佛得角|CRC Costa_Rica 哥斯达黎加|CRI Costa_Rica 哥斯达黎加|CRO Croatia 克罗地亚|CUB Cuba 古巴|
    CUW Curaçao 库拉索|CXR Christmas_Island 圣诞岛|CYM Cayman_Islands 开曼群岛|CYP Cyprus 塞浦路斯|
    CZE Czech_Republic 捷克|DDR Germany 德国|DEN Denmark 丹麦|DEU Germany 德国|DGA Diego_Garcia 迪戈加西亚岛|
    DJI Djibouti 吉布提|DMA Dominica 多米尼克|DNK Denmark 丹麦|DOM Dominican_Republic 多米尼加共和国|
    DZA Algeria 阿尔及利亚|ECU Ecuador 厄瓜多尔|EGY Egypt 埃及|ENG England 英格兰|ERI Eritrea 厄立特里亚|
    ESA El_Salvador 萨尔瓦多|ESH Western_Sahara 西撒哈拉|ESP Spain 西班牙|EST Estonia 爱沙尼亚|
    ETH Ethiopia 埃塞俄比亚|EU European_Union 欧洲联盟|FIJ Fiji 斐济|FIN Finland 芬兰|FJI Fiji 斐济|
    FLK Falkland_Islands 福克兰群岛|FRA France 法国|FRG West_Germany 西德|FRO Faroe_Islands 法罗群岛|
    FSM Micronesia 密克罗尼西亚|FXX France 法国|GAB Gabon 加蓬|GBR United_Kingdom 英国|GDR East_Germany 东德|
    GEO Georgia 格鲁吉亚|GER Germany 德国|GGY Guernsey 根西岛|GHA Ghana 加纳|GIB Gibraltar 直布罗陀|
    GIN Guinea 几内亚|GLP Guadeloupe 瓜德罗普|GMB Gambia 冈比亚|GNB Guinea-Bissau 几内亚比绍|
    GNQ Equatorial_Guinea 赤道几内亚|GRC Greece 希腊|GRD Grenada 格林纳达|GRE Greece 希腊|GRL Greenland 格陵兰|
    GTM Guatemala 危地马拉|GUA Guatemala 危地马拉|GUF French_Guiana 法属圭亚那|GUM Guam 关岛|GUY Guyana 圭亚那|
    HAI Haiti 海地|HKG Hong_Kong 香港|HMD Heard_and_McDonald_Islands 赫德岛和麦克唐纳群岛|HND Honduras 洪都拉斯|
    HON Honduras 洪都拉斯|HRV Croatia 克罗地亚|HTI Haiti 海地|HUN Hungary 匈牙利|IDN Indonesia 印度尼西亚|
    IMN Isle_of_Man 马恩岛|IND India 印度|IOM Isle_of_Man 马恩岛|IOT British_Indian_Ocean_Territory 英属印度洋领地|
    IRI Iran 伊朗|IRL Ireland 爱尔兰|IRN Iran 伊朗|IRQ Iraq 伊拉克|ISL Iceland 冰岛|ISR Israel 以色列|
    ITA Italy 意大利|JAM Jamaica 牙买加|JEY Jersey 泽西岛|JOR Jordan 约旦|JPN Japan 日本|KAZ Kazakhstan 哈萨克斯坦|
    KEN Kenya 肯尼亚|KGZ Kyrgyzstan 吉尔吉斯斯坦|KHM Cambodia 柬埔寨|KIR Kiribati 基里巴斯|
    KNA Saint_Kitts_and_Nevis 圣基茨和尼维斯|KOR South_Korea 韩国|KOS Kosovo 科索沃|KSA Saudi_Arabia 沙特阿拉伯|
    KUW Kuwait 科威特|KWT Kuwait 科威特|LAO Laos 老挝|LAT Latvia 拉脱维亚|LBN Lebanon 黎巴嫩|LBR Liberia 利比里亚|
    LBY Libya 利比亚|LCA Saint_Lucia 圣卢西亚|LIB Lebanon 黎巴嫩|LIE Liechtenstein 列支敦士登|
    LKA Sri_Lanka 斯里兰卡|LSO Lesotho 莱索托|LTU Lithuania 立陶宛|LUX Luxembourg 卢森堡|LVA Latvia 拉脱维亚|
    MAC Macau 澳门|MAD Madagascar 马达加斯加|MAF Saint_Martin 法属圣马丁|MAR Morocco 摩洛哥|MAS Malaysia 马来西亚|
    MCO Monaco 摩纳哥|MDA Moldova 摩尔多瓦|MDG Madagascar 马达加斯加|MDV Maldives 马尔代夫|MEX Mexico 墨西哥|
    MGL Mongolia 蒙古国|MHL Marshall_Islands 马绍尔群岛|MKD North_Macedonia 北马其顿|MLI Mali 马里|MLT Malta 马耳他|
    MMR Myanmar 缅甸|MNE Montenegro 黑山|MNG Mongolia 蒙古国|MNP Northern_Mariana_Islands 北马里亚纳群岛|
    MON Monaco 摩纳哥|MOZ Mozambique 莫桑比克|MRT Mauritania 毛里塔尼亚|MSR Montserrat 蒙特塞拉特|
    MTQ Martinique 马提尼克|MUS Mauritius 毛里求斯|MWI Malawi 马拉维|MYA Myanmar 缅甸|MYS Malaysia 马来西亚|
    MYT Mayotte 马约特|NAM Namibia 纳米比亚|NCL New_Caledonia 新喀里多尼亚|NED Netherlands 荷兰|NEP Nepal 尼泊尔|
    NER Niger 尼日尔|NFK Norfolk_Island 诺福克岛|NGA Nigeria 尼日利亚|NGR Nigeria 尼日利亚|NIC Nicaragua 尼加拉瓜|
    NIG Niger 尼日尔|NIR Northern_Ireland 北爱尔兰|NIU Niue 纽埃|NLD Netherlands 荷兰|NOR Norway 挪威|
    NPL Nepal 尼泊尔|NRU Nauru 瑙鲁|NZL New_Zealand 新西兰|OMA Oman 阿曼|OMN Oman 阿曼|PAK Pakistan 巴基斯坦|
    PAN Panama 巴拿马|PAR Paraguay 巴拉圭|PCN Pitcairn_Islands 皮特凯恩群岛|PER Peru 秘鲁|PHI Philippines 菲律宾|
    PHL Philippines 菲律宾|PLE Palestine 巴勒斯坦|PLW Palau 帕劳|PNG Papua_New_Guinea 巴布亚新几内亚|
    POL Poland 波兰|POR Portugal 葡萄牙|PRC China 中华人民共和国|PRI Puerto_Rico 波多黎各|PRK North_Korea 朝鲜|
    PRT Portugal 葡萄牙|PRY Paraguay 巴拉圭|PSE Palestine 巴勒斯坦|PUR Puerto_Rico 波多黎各|
    PYF French_Polynesia 法属波利尼西亚|QAT Qatar 卡塔尔|REU Réunion 留尼汪|ROC Republic_of_China 中华民国|
    ROC-TW Taiwan 中华民国|ROM Romania 罗马尼亚|ROU Romania 罗马尼亚|RSA South_Africa 南非|RUS Russia 俄罗斯|
    RWA Rwanda 卢旺达|SAU Saudi_Arabia 沙特阿拉伯|SCG Serbia_and_Montenegro 塞尔维亚和黑山|SCO Scotland 苏格兰|
    SDN Sudan 苏丹|SEN Senegal 塞内加尔|SGP Singapore 新加坡|
    SGS South_Georgia_and_South_Sandwich_Islands 南乔治亚和南桑威奇群岛|SHN Saint_Helena 圣赫勒拿|
    SIN Singapore 新加坡|SJM Svalbard_and_Jan_Mayen 斯瓦尔巴和扬马延|SLB Solomon_Islands 所罗门群岛|
    SLE Sierra_Leone 塞拉利昂|SLO Slovenia 斯洛文尼亚|SLV El_Salvador 萨尔瓦多|SMR San_Marino 圣马力诺|
    SOM Somalia 索马里|SPM Saint_Pierre_and_Miquelon 圣皮埃尔和密克隆群岛|SRB Serbia 塞尔维亚|
    SRI Sri_Lanka 斯里兰卡|SSD South_Sudan 南苏丹|SSR Soviet_Union 苏联|STP São_Tomé_and_Príncipe 圣多美和普林西比|
    SUD Sudan 苏丹|SUI Switzerland 瑞士|SUR Suriname 苏里南|SVK Slovakia 斯洛伐克|SVN Slovenia 斯洛文尼亚|
    SWE Sweden 瑞典|SWZ Eswatini 斯威士兰|SXM Sint_Maarten 荷属圣马丁|SYC Seychelles 塞舌尔|SYR Syria 叙利亚|
    TAA Tristan_da_Cunha 特里斯坦-达库尼亚群岛|TAN Tanzania 坦桑尼亚|
    TCA Turks_and_Caicos_Islands 特克斯和凯科斯群岛|TCD Chad 乍得|TCH Czechoslovakia 捷克斯洛伐克|TGO Togo 多哥|
    THA Thailand 泰国|TJK Tajikistan 塔吉克斯坦|TKL Tokelau 托克劳|TKM Turkmenistan 土库曼斯坦|
    TLS East_Timor 东帝汶|TON Tonga 汤加|TRI Trinidad_and_Tobago 特立尼达和多巴哥|
    TTO Trinidad_and_Tobago 特立尼达和多巴哥|TUN Tunisia 突尼斯|TUR Turkey 土耳其|TUV Tuvalu 图瓦卢|TWN Taiwan 台湾|
    TZA Tanzania 坦桑尼亚|UAE United_Arab_Emirates 阿联酋|UGA Uganda 乌干达|UK United_Kingdom 英国|
    UKR Ukraine 乌克兰|UMI U.S._Outlying_Islands 美国本土外小岛屿|URS Soviet_Union 苏联|URU Uruguay 乌拉圭|
    URY Uruguay 乌拉圭|US United_States 美国|USA United_States 美国|UZB Uzbekistan 乌兹别克斯坦|
    VAT Vatican_City 梵蒂冈|VCT Saint_Vincent_and_Grenadines 圣文森特和格林纳丁斯|VEN Venezuela 委内瑞拉|
    VGB British_Virgin_Islands 英属维尔京群岛|VIE Vietnam 越南|VIR U.S._Virgin_Islands 美属维尔京群岛|
    VNM Vietnam 越南|VUT Vanuatu 瓦努阿图|WAL Wales 威尔士|WLF Wallis_and_Futuna 瓦利斯和富图纳|WSM Samoa 萨摩亚|
    XKX Kosovo 科索沃|YEM Yemen 也门|YUG Yugoslavia 南斯拉夫|ZAF South_Africa 南非|ZAM Zambia 赞比亚|
    ZIM Zimbabwe 津巴布韦|ZMB Zambia 赞比亚|ZWE Zimbabwe 津巴布韦"""
COUNTRIES = {
    code: (english.replace("_", " "), chinese)
    for code, english, chinese in (entry.split() for entry in _COUNTRIES.split("|"))
}
