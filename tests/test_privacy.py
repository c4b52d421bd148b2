"""Encryption at rest, and personal data found and replaced."""

import bz2
import gzip
import html
import os
import pickle
import random
import re
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.corpus import clean_wikitext
from wikigpt.corpus.privacy import Redactor, find, luhn, mod_11_2, mod_97
from wikigpt.encryption import Key, is_encrypted, load_key
from wikigpt.errors import UserError


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return load_key(tmp_path / "key.txt", create=True)


@pytest.mark.parametrize("data", [b"", b"x", "隐私".encode(), bytes(range(256)) * 1000])
def test_encrypted_data_come_back(key: Key, data: bytes) -> None:
    encrypted = key.encrypt(data)
    assert is_encrypted(encrypted) and (len(data) < 6 or data not in encrypted)
    assert key.decrypt(encrypted) == data
    assert key.encrypt(data) != encrypted  # a fresh file key every time


def test_the_format_is_age(tmp_path: Path, key: Key) -> None:
    """Whoever holds the key file needs nothing of ours, and whoever knows the recipient can write for us."""
    line = (tmp_path / "key.txt").read_text().splitlines()[-1]
    assert pyrage.decrypt(key.encrypt(b"text"), [pyrage.x25519.Identity.from_str(line)]) == b"text"
    assert key.decrypt(pyrage.encrypt(b"text", [pyrage.x25519.Recipient.from_str(key.recipient)])) == b"text"


def test_another_key_is_named_as_the_reason(tmp_path: Path, key: Key) -> None:
    other = load_key(tmp_path / "other.txt", create=True)
    with pytest.raises(UserError, match=r"part-0 was encrypted for another key than age1"):
        other.decrypt(key.encrypt(b"text"), "part-0")
    with pytest.raises(UserError, match="is not encrypted"):
        key.decrypt(b"PAR1 plain")


def test_no_changed_or_shortened_file_is_accepted(key: Key) -> None:
    data = os.urandom(150_000)  # three chunks of 64 KiB
    encrypted = key.encrypt(data)
    header = encrypted.index(b"\n---") + 50
    chunk = 65_536 + 16
    lengths = [*range(0, 300, 7), header + 16, header + 16 + chunk, header + 16 + 2 * chunk, len(encrypted) - 1]
    for length in lengths:
        with pytest.raises(UserError):
            key.decrypt(encrypted[:length])
    for place in [*range(0, 300, 3), 1000, chunk, 2 * chunk + 7, len(encrypted) - 1]:
        changed = bytearray(encrypted)
        changed[place] ^= 1
        with pytest.raises(UserError):
            key.decrypt(bytes(changed))
    with pytest.raises(UserError, match="damaged"):
        key.decrypt(encrypted + b"\0")


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key.txt"
    with pytest.raises(UserError, match="does not exist; make one with `age-keygen"):
        load_key(path)
    key = load_key(path, create=True)
    assert load_key(path, create=True) == load_key(path) == key
    assert [p.name for p in path.parent.iterdir()] == ["key.txt"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().splitlines()
    assert lines[1] == f"# public key: {key.recipient}" and lines[2].startswith("AGE-SECRET-KEY-1")
    assert lines[2] not in repr(key)
    assert pickle.loads(pickle.dumps(key)).decrypt(key.encrypt(b"text")) == b"text"


def test_processes_that_make_the_key_at_once_agree(tmp_path: Path) -> None:
    keys: list[Key] = []
    threads = [
        threading.Thread(target=lambda: keys.append(load_key(tmp_path / "key.txt", create=True))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 16 and len(set(keys)) == 1


def test_secrets_of_keys_differ_and_stay(tmp_path: Path, key: Key) -> None:
    other = load_key(tmp_path / "other.txt", create=True)
    assert len(key.secret) == 32 and key.secret == load_key(tmp_path / "key.txt").secret != other.secret


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, key: Key, mode: int) -> None:
    (tmp_path / "key.txt").chmod(mode)
    with pytest.raises(UserError, match="chmod 600"):
        load_key(tmp_path / "key.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds 0 keys"),
        ("# only a comment\n", "holds 0 keys"),
        ("AGE-SECRET-KEY-1QQQQ\n", "damaged"),
        ("{line}X\n", "damaged"),
        ("{line}\n{line}\n", "holds 2 keys"),
        ("age-encryption.org/v1\n-> scrypt x 18\n", "itself encrypted"),
        ("\xff\xfe", "damaged"),
    ],
)
def test_damaged_key_files(tmp_path: Path, key: Key, content: str, message: str) -> None:
    path = tmp_path / "key.txt"
    line = path.read_text().splitlines()[-1]
    path.write_bytes(content.format(line=line).encode("latin-1"))
    with pytest.raises(UserError, match=message):
        load_key(path)
    assert line not in message


def test_comments_and_line_ends_of_a_key_file_do_not_matter(tmp_path: Path, key: Key) -> None:
    path = tmp_path / "key.txt"
    line = path.read_text().splitlines()[-1]
    path.write_bytes(f"# mine\r\n\r\n  {line}\r\n# end".encode())
    assert load_key(path) == key


def test_without_pyrage_the_message_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyrage'] = None\n"
        "from wikigpt.encryption import load_key\n"
        "from wikigpt.errors import UserError\n"
        f"try: load_key({str(tmp_path / 'key.txt')!r}, create=True)\n"
        "except UserError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "wikigpt[privacy]"' in answer


def test_known_numbers() -> None:
    """Examples of the standards themselves."""
    assert luhn("4111111111111111") and luhn("378282246310005") and not luhn("4111111111111112")
    assert (
        mod_97("GB82WEST12345698765432") and mod_97("DE89370400440532013000") and not mod_97("DE89370400440532013001")
    )
    assert mod_11_2("11010519491231002X") and mod_11_2("440524188001010014") and not mod_11_2("110105194912310021")


class Planted:
    """Synthetic prose with personal data at known places, made from a seed."""

    def __init__(self, lang: str, seed: int) -> None:
        self.lang = lang
        self.dice = random.Random(f"{lang}-{seed}")
        self.text = ""
        self.spans: list[tuple[int, int, str]] = []
        data = DATA_EN if lang == "en" else DATA_ZH
        sentences = [
            *((kind, template) for kind, template in self.dice.sample(data, 5)),
            *(("", template) for template in self.dice.sample(HARD_EN if lang == "en" else HARD_ZH, 5)),
            *(("", template) for template in self.dice.sample(PROSE_EN if lang == "en" else PROSE_ZH, 2)),
        ]
        self.dice.shuffle(sentences)
        for kind, template in sentences:
            before, _, rest = template.partition("⟦")
            value, _, after = rest.partition("⟧")
            self.text += self.fill(before)
            start = len(self.text)
            self.text += self.fill(value)
            if kind:
                self.spans.append((start, len(self.text), kind))
            self.text += self.fill(after) + (" " if lang == "en" else "")

    def digits(self, count: int) -> str:
        return "".join(self.dice.choices("0123456789", k=count))

    def fill(self, template: str) -> str:
        """`#` becomes a digit, `<name>` what the method of that name makes."""
        text = re.sub(r"<(\w+)>", lambda match: getattr(self, match[1])(), template)
        return re.sub("#+", lambda match: self.digits(len(match[0])), text)

    def n(self) -> str:  # a digit from 2 to 9
        return self.dice.choice("23456789")

    def octets(self) -> str:
        first = self.dice.choice([31, 47, 58, 101, 114, 172, 192, 203, 218])
        return ".".join(map(str, [first, *(self.dice.randrange(20, 256) for _ in range(3))]))

    def ipv6(self) -> str:
        groups = [f"{self.dice.randrange(0x1000, 0xFFFF):x}" for _ in range(self.dice.choice([3, 7]))]
        return "2400:" + ":".join(groups) if len(groups) == 7 else "2400:" + ":".join(groups[:2]) + "::" + groups[2]

    def mac(self) -> str:
        sign = self.dice.choice(":-")
        text = sign.join(f"{self.dice.randrange(256):02x}" for _ in range(5)) + sign + "af"
        return self.dice.choice([text, text.upper()])

    def hexes(self) -> str:
        return f"{self.dice.getrandbits(32):08x}"

    def name(self) -> str:
        return self.dice.choice(["li.wei", "zhang_san", "j.smith", "maria-lopez", "bob", "k.o.brien", "wangfang88"])

    def host(self) -> str:
        stem = self.dice.choice(["example", "mail.example", "uni-north.example", "acme-tools", "dept.shop"])
        return f"{stem}.{self.dice.choice(['com', 'org', 'net', 'cn', 'com.cn', 'co.uk', 'edu'])}"

    def mobile(self) -> str:
        return self.dice.choice(["13", "15", "17", "18", "19"]) + self.digits(9)

    def resident(self, valid: bool = True) -> str:
        birth = f"19{self.dice.randrange(50, 99)}{self.dice.randrange(1, 13):02}{self.dice.randrange(1, 29):02}"
        body = self.dice.choice(["110105", "310104", "440305", "510107", "650102"]) + birth + self.digits(3)
        total = sum(
            int(d) * w for d, w in zip(body, [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2], strict=True)
        )
        check = "10X98765432"[total % 11]
        return body + (check if valid else self.dice.choice([c for c in "0123456789X" if c != check]))

    def wrong_resident(self) -> str:
        return self.resident(valid=False)

    def old_resident(self) -> str:
        return self.resident()[:6] + self.resident()[8:14] + self.digits(3)

    def card_of(self, prefix: str, length: int, valid: bool = True) -> str:
        body = prefix + self.digits(length - 1 - len(prefix))
        for check in "0123456789":
            total = 0
            for place, digit in enumerate(reversed(body + check)):
                value = int(digit) * (1 + place % 2)
                total += value // 10 + value % 10
            if (total % 10 == 0) == valid:
                return body + check
        raise AssertionError

    def card(self) -> str:
        return self.card_of(self.dice.choice(["4", "53", "62", "6011", "35"]), 16)

    def wrong_card(self) -> str:
        return self.card_of("4", 16, valid=False)

    def card4(self) -> str:
        number = self.card()
        return self.dice.choice(" -").join(number[i : i + 4] for i in range(0, 16, 4))

    def amex(self) -> str:
        number = self.card_of("37", 15)
        return f"{number[:4]} {number[4:10]} {number[10:]}"

    def union19(self) -> str:
        return self.card_of("62", 19)

    def iban(self, valid: bool = True) -> str:
        country, length = self.dice.choice(
            [("DE", 18), ("GB", 18), ("FR", 23), ("NL", 14), ("ES", 20), ("NO", 11), ("MT", 27)]
        )
        letters = {"GB": "WEST", "NL": "ABNA", "MT": "MALT"}.get(country, "")
        account = letters + self.digits(length - len(letters))
        number = int("".join(str(int(c, 36)) for c in account + country) + "00")
        check = 98 - number % 97
        return f"{country}{check if valid else check % 97 + 2:02}{account}"

    def wrong_iban(self) -> str:
        return self.iban(valid=False)

    def iban4(self) -> str:
        number = self.iban()
        return " ".join(number[i : i + 4] for i in range(0, len(number), 4))

    def full(self) -> str:
        return "".join(chr(ord(c) + 0xFEE0) for c in self.mobile())

    def full_email(self) -> str:
        return "".join(chr(ord(c) + 0xFEE0) for c in f"{self.name()}@{self.host()}")

    def big(self) -> str:
        return f"{self.dice.randrange(10**6, 10**11):,}"

    def year(self) -> str:
        return str(self.dice.randrange(1100, 2030))


DATA_EN = [
    ("email", "Write to ⟦<name>##@<host>⟧."),
    ("email", "His address (⟦<name>@<host>⟧) is no longer read."),
    ("email", "E-mail: ⟦<name>+news@<host>⟧, answered daily."),
    ("email", "Contact <⟦<name>.##@<host>⟧>."),
    ("email", "Reach me under ⟦<name> (at) <host>⟧ or in person."),
    ("email", "Spam-proof: ⟦<name> [at] acme-tools [dot] com⟧."),
    ("email", "You may write ⟦<name> at acme-tools dot com⟧."),
    ("email", "[mailto:⟦INFO@ACME-TOOLS.COM⟧ mail]"),
    ("phone", "Call ⟦+1 <n>##-<n>##-####⟧ for a table."),
    ("phone", "The desk, ⟦(<n>##) <n>##-####⟧, is open."),
    ("phone", "Its number ⟦<n>##-<n>##-####⟧ was changed."),
    ("phone", "She left ⟦<n>##.<n>##.####⟧ on the machine."),
    ("phone", "Toll free ⟦1-800-<n>##-####⟧!"),
    ("phone", "London: ⟦+44 20 7### ####⟧."),
    ("phone", "Berlin ⟦+49 (0)30 #######⟧, third floor."),
    ("phone", "Paris ⟦+33 1 4# ## ## ##⟧."),
    ("phone", "Tokyo ⟦+81-3-5###-####⟧;"),
    ("phone", "The Shanghai office: ⟦+86 138 #### ####⟧."),
    ("phone", "Tel: ⟦020 7### ####⟧."),
    ("phone", "Phone number is ⟦07### ######⟧."),
    ("phone", "Fax ⟦<n>## <n>## ####⟧."),
    ("phone", "He answers at ⟦(<n>##)<n>##-#### ext. 12⟧."),
    ("id", "Employee record: ⟦2##-4#-5###⟧."),
    ("id", "SSN ⟦3## 5# 6###⟧ on file."),
    ("id", "Passport no. ⟦9########⟧ expired."),
    ("id", "The passport: ⟦C########⟧."),
    ("id", "Chinese resident ⟦<resident>⟧ applied."),
    ("card", "Paid with ⟦<card4>⟧ yesterday."),
    ("card", "Card ⟦<card>⟧ was declined."),
    ("card", "Amex ⟦<amex>⟧."),
    ("iban", "Transfer to ⟦<iban4>⟧ please."),
    ("iban", "IBAN ⟦<iban>⟧, thanks."),
    ("ip", "Connections from ⟦<octets>⟧ failed."),
    ("ip", "Host ⟦<ipv6>⟧ answered."),
    ("ip", "Listening on ⟦<octets>⟧:8080."),
    ("mac", "Its adapter ⟦<mac>⟧ is unknown."),
    ("credentials", "Clone https://⟦<name>:s3cret##⟧@git.acme-tools.com/x.git now."),
]
DATA_ZH = [
    ("email", "请发邮件到⟦<name>##@<host>⟧。"),
    ("email", "邮箱：⟦<name>@<host>⟧，欢迎来信。"),
    ("email", "邮箱⟦<full_email>⟧已停用。"),
    ("email", "联系⟦<name>(at)<host>⟧即可。"),
    ("email", "投稿信箱⟦<name>[at]acme-tools[dot]com⟧。"),
    ("email", "（⟦#########@qq.com⟧）"),
    ("phone", "手机⟦<mobile>⟧，随时可打。"),
    ("phone", "他的号码是⟦<mobile>⟧。"),
    ("phone", "⟦138-####-####⟧是她的电话。"),
    ("phone", "可致电⟦159 #### ####⟧预约。"),
    ("phone", "电话：⟦<full>⟧。"),
    ("phone", "海外请拨⟦+86 13#########⟧。"),
    ("phone", "总部⟦（010）########⟧。"),
    ("phone", "热线⟦010-########⟧转人工。"),
    ("phone", "深圳办事处⟦0755-########⟧。"),
    ("phone", "传真：⟦0571 8#######⟧。"),
    ("phone", "客服⟦400-8##-####⟧全天开通。"),
    ("phone", "电话⟦021########⟧。"),
    ("phone", "座机⟦8#######⟧无人接听。"),
    ("phone", "香港⟦+852 2### ####⟧。"),
    ("phone", "台北⟦(02) 2###-####⟧。"),
    ("phone", "行動電話⟦0912-###-###⟧。"),
    ("phone", "上海⟦+86-21-6#######⟧。"),
    ("id", "身份证号⟦<resident>⟧。"),
    ("id", "经查，⟦<resident>⟧持有人已离境。"),
    ("id", "公民身份号码：⟦<old_resident>⟧。"),
    ("id", "护照号⟦E########⟧，"),
    ("id", "持護照（⟦G########⟧）入境。"),
    ("card", "银行卡⟦<union19>⟧已冻结。"),
    ("card", "卡号⟦<card4>⟧，"),
    ("card", "请转账至⟦<card>⟧。"),
    ("iban", "汇款账号⟦<iban4>⟧。"),
    ("iban", "国际账户⟦<iban>⟧。"),
    ("ip", "来自⟦<octets>⟧的访问。"),
    ("ip", "服务器地址⟦<ipv6>⟧。"),
    ("mac", "网卡⟦<mac>⟧。"),
    ("credentials", "克隆http://⟦<name>:mima##⟧@<host>/x 。"),
]
HARD_EN = [
    "It was built in 1990-2000 and again 1914–1918.",
    "On 2026-08-01 12:30:45 the score was 6–4, 3–6, 7–6(7–5).",
    "Population <big> in <year>, <big> in <year>.",
    "ISBN 978-7-###-#####-# and ISBN 0-306-40615-2, ISBN 7302######.",
    "ISSN 1###-8###, doi:10.10##/978-3-540-#####-6_12, OCLC 13#########.",
    "At 39.904200, 116.407400 (39°54′20″N 116°23′29″E).",
    "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O Be7 6. Re1 b5",
    "Version 1.2.3.4 and firmware v10.0.1.25 were recalled.",
    "Digest 27.1.6.8 and section 4.3.2.1 say so.",
    "2^34 = 17179869184 and pi is 3.141592653589793.",
    "Dialling codes +44 20, +86 10 and +1-809 are in use, area code 212.",
    "The time zone is UTC+08:00, UTC−03:30.",
    "CAS number 7732-18-5, EC 231-791-2.",
    "Receipt <wrong_card> and account <wrong_iban> do not exist.",
    "Employment grew by +1,234,567 from 2004-05 to 2005-06.",
    "The loopback is 127.0.0.1 or ::1, the mask 255.255.255.0.",
    "In C++, std::vector and a::b; at 12:30:45:99 it began.",
    "See icon@2x.png, @property and Mastodon.",
    "It peaked at the dot com bubble, at a dot in time.",
    "UUID 550e8400-e29b-41d4-a716-44665544####.",
    "1995 1996 1997 1998 1999 2000 2001 2002",
    "Lottery: 4 8 15 16 23 42 and 3, 14, 15, 92.",
    "arXiv 1706.03762, PMID 12345678, US patent 6,285,999.",
    "Galaxies NGC 4###, J1###+5###, HD 2#####.",
    "It weighs 1 ### ### kg and costs $4 ### ### ###.",
    "The range 192.168.0.0/16 is private; channel 224.0.0.1 too.",
    "Bus 12-34-56, hymn 123-45, Boeing 747-400.",
    "Order 2026080112345678 was shipped.",
    "Isaiah 40:12:3 and Rev. 1:2:3 are quoted.",
]
HARD_ZH = [
    "公元<year>年至<year>年，1990-2000年间。",
    "人口<big>人，面积9600000平方公里。",
    "产量达13812345678吨，耗资15912345678元。",
    "书号978-7-###-#####-#，ISBN 7-302-#####-#。",
    "刊号1###-2###，DOI：10.1###/j.cnki.2026.08.###。",
    "东经116.407400度，北纬39.904200度。",
    "区号0755，国际区号+86，邮编10####。",
    "号段有130、131、132、145、186等。",
    "版本1.2.3.4，固件版本10.0.1.25。",
    "比分21-19、19-21、21-17，总分6-4 6-3 7-6。",
    "2026年8月1日12:30:45，2026-08-01。",
    "共有<wrong_card>种，编号<wrong_resident>。",
    "编号11010120260801##，流水2026080112345678。",
    "圆周率3.14159265358979，光速299792458米。",
    "G1##次列车，京A·####，航班CA####。",
    "网段192.168.0.0/16，回送地址127.0.0.1。",
    "专利号ZL2019########.#，型号13912345678。",
    "二战1939–1945，一战1914—1918。",
    "在第1.2.3.4节及《法典》27.1.6.8中。",
    "时区UTC+08:00，海拔8848.86米。",
    "北京2008、伦敦2012、东京2020、巴黎2024。",
    "订单号13812345678已完成。",
    "股价1,234.56，成交额<big>。",
    "微博@人民日报 与@新华社 转发。",
    "图标icon@2x.png与::before伪元素。",
]
PROSE_EN = [
    "The river flows north for a while and then turns east.",
    "She studied law, travelled widely and wrote two novels.",
    "Its colour comes from iron, which settles out in summer.",
    "The council met in a hall that no longer stands.",
]
PROSE_ZH = [
    "该河先向北流，然后转向东方。",
    "她学习法律，游历四方，写过两部小说。",
    "其颜色来自铁质，夏季沉淀。",
    "议会在一座已不存在的大厅里开会。",
]


def test_planted_personal_data() -> None:
    """Recall counts data that is covered from end to end; precision counts finds that touch any."""
    planted: Counter[tuple[str, str]] = Counter()
    covered: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    for lang in ("en", "zh"):
        for seed in range(200):
            document = Planted(lang, seed)
            finds = find(document.text)
            for start, end, kind in document.spans:
                planted[lang, kind] += 1
                if any(f.start <= start and end <= f.end and f.kind == kind for f in finds):
                    covered[lang, kind] += 1
                else:
                    wrong.append(f"missed {kind}: {document.text[max(0, start - 12) : end + 6]}")
            for f in finds:
                found[lang, f.kind] += 1
                if any(f.start < end and start < f.end and f.kind == kind for start, end, kind in document.spans):
                    right[lang, f.kind] += 1
                else:
                    wrong.append(f"false {f.kind}: {document.text[max(0, f.start - 12) : f.end + 6]}")
    print(f"\n{'':16}{'planted':>9}{'recall':>9}{'precision':>11}")
    for key in sorted(planted):
        precision = right[key] / max(1, found[key])
        print(f"{key[0]} {key[1]:13}{planted[key]:9}{covered[key] / planted[key]:9.3f}{precision:11.3f}")
        assert covered[key] / planted[key] >= 0.95 and precision >= 0.95, wrong
    for lang in ("en", "zh"):
        recall = sum(n for (code, _), n in covered.items() if code == lang) / sum(
            n for (code, _), n in planted.items() if code == lang
        )
        precision = sum(n for (code, _), n in right.items() if code == lang) / sum(
            n for (code, _), n in found.items() if code == lang
        )
        print(f"{lang} together: recall {recall:.4f}, precision {precision:.4f}")
        assert recall >= 0.97 and precision >= 0.97, wrong


WRITTEN = """
email | Please forward all complaints to complaints-dept@city.gov.example.au by Friday
email | (nina_k99@yandex.example.ru)
email | 邮件地址：service@shop.example.cn；
email | 有问题找hr@corp.example.com.cn咨询
email | sales[at]firm.example.de
email | reply to j_doe at example dot net
phone | Mobile: +61 412 345 678
phone | Landline +39 06 6982 3456
phone | the number is 646.555.0134
phone | Text (303) 555-0188 x204
phone | Phone: 0207 946 0123
phone | +7 (495) 123-45-67
phone | +91 98765 43210
phone | +82-10-1234-5678
phone | Office: 1 (212) 555-0147
phone | emergency contact 07911 123456
phone | 手机号码13600001111
phone | 有意者请联系小李18688889999
phone | 预订电话400 820 8820
phone | 办公电话（0411）8430 1234
phone | tel：86-755-2601-3388
phone | 电话0086-20-38881234
phone | 微信同号 177-1234-5678
phone | 聯絡電話 02-2771-2171 分機1234
phone | 行動：0988-123-456
phone | 澳门+853 2871 2345
phone | 李先生137 0000 1234
id | 身份证（440524188001010014）
id | 證件號碼: 11010519491231002X
id | ssn: 078-05-1121
id | US passport number 512345678
id | 護照號碼：310123456
id | ID号11010519491231002x
card | 信用卡5500 0055 5555 5559
card | paid by 4000-0566-5566-5556
card | UnionPay 6200000000000005
iban | Pay to FR14 2004 1010 0505 0001 3M02 606.
iban | NL91ABNA0417164300
ip | blocked 185.220.101.47 for scanning
ip | IP：36.112.24.10
ip | 2001:0:ce49:7601:e866:efff:62c3:fffe
mac | device d4:6e:0e:8b:12:f0 joined
credentials | ftp://anna:pa55@files.example.org/
email | Questions? Drop me a line: marie.curie@physics.univ-paris.example.fr.
phone | My cell is 415 555 2671, leave a message.
phone | Tel. +44 (0)20 7946 0018
phone | (+86) 10-8888 9999
phone | call us at 1.800.555.0199
phone | Please ring 555-0123.
phone | WhatsApp +55 11 91234-5678
phone | Hotline: 0800 123 4567
id | His SSN is 536-22-8145, born 1970.
id | social security number: 536228145
card | VISA 4539 1488 0343 6467 exp 12/27
card | Credit card number 4539148803436467
card | AmEx 3782-822463-10005
iban | IBAN: GB29NWBK60161331926819
ip | ip=203.0.113.77 port=22
ip | ssh root@203.0.113.77
ip | fe80::1ff:fe23:4567:890a
mac | MAC address 3C-22-FB-91-0A-7E
id | Passport Number: AB1234567
credentials | mysql://root:hunter2@db.internal:3306/app
phone | 联系人：王芳，电话 13912345678（微信同号）
phone | 电话/微信：13912345678
phone | 手机:139-1234-5678
phone | 联系电话:(0571)88886666-8001
phone | 总机 010-62345678 转 8012
phone | 电话：62345678
id | 身份证：11010519491231002X
id | 身份證字號：A123456789
id | 身份证号码为440524188001010014
email | 邮箱是 lisi2020@163.com,请查收
email | QQ邮箱123456789@qq.com
email | 电邮：lisi＠example．com
id | 护照号码：EA1234567
id | 港澳通行证 C12345678
ip | 登录IP为：114.247.50.2。
phone | 住址：北京市海淀区，电话86-10-62345678
email | Email: foo AT bar DOT com
email | e-mail: foo [ at ] bar [ dot ] com
phone | +8613912345678
phone | 008613912345678
phone | 8613912345678
phone | 联系方式 139 1234 5678
phone | (86)13912345678
phone | tel:+1-201-555-0123
phone | phone:2015550123
phone | 我的手机号是１３９１２３４５６７８。
id | hkid A123456(3)
phone | Tel No.: 2345 6789
phone | 电话：+852-23456789
"""
NUMBERS_OF_THINGS = """
The 2019 edition sold 1234567890 copies.
Founded 1987. 1988 1989 1990
In 2001 2002 2003 2004 the team won.
GDP 1,234,567,890,123 in 2020.
OEIS A000045: 0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144
mass 1.98847e30 kg; G = 6.67430e-11
ISBN 9787301012345
978-0-306-40615-7
frequency 101.1.2.3
Windows 10.0.19041.1
section 3.2.1.4 of the RFC
ratio 1:2:3:4
MD5 d41d8cd98f00b204e9800998ecf8427e
git commit 1234567890123456789012345678901234567890
(1987) 1234567
(2010)12345678
1990–91 1991–92 1992–93
call number 813.54 20
He called 911 in 2001.
phone sales of 13812345678 units
Unix time 1609459200 and 1609459200000
barcode 4006381333931
The dialing code is 0755-.
1 234 567 8901
lat 40.7128 lon -74.0060
+1 234 votes
votes: 123-456-7890
ICAO 24-bit 3C4B26
Route 128-495-1234
Mach 2.0-2.5.1
Messier 31, NGC 224
2026-08-01T12:30:45Z
EAN 2001-2002-2003-2004
12.05.2019-14.05.2019
第123-456-789号
人口13912345678
编号为13912345678的文件
2008.08.08-2008.08.24
电话诞生于1876-1877年
手机2007-06-29发售
电话号码有8位，1990-2000年升位
手机销量达13912345678部
0.13912345678
1391234567890
QQ群12345678
邮政编码100871
车次G1234567
99999999999
$1 391 234 5678
800-1200-1600 MHz
100-200-3000
1-2-3-4-5-6-7-8
5 000 000–7 000 000
1 500 1000
2000-2001 2001-2002
0-306-40615-2
a@b
@types/node@1.2.3
name@2x.png
+391234567890123456789012345678
model 123-45-6789
"""


@pytest.mark.parametrize("line", WRITTEN.strip().splitlines())
def test_ways_of_writing(line: str) -> None:
    kind, text = line.split(" | ", 1)
    assert [found.kind for found in find(text)] == [kind]


@pytest.mark.parametrize("text", NUMBERS_OF_THINGS.strip().splitlines())
def test_numbers_of_things(text: str) -> None:
    assert find(text) == []


def test_brackets_stay_balanced() -> None:
    redact = Redactor("placeholder")
    assert redact("号码（+852）8177 7778，(+1 212-555-0147) and (+49 (0)30 901820)")[0] == (
        "号码[PHONE]，([PHONE]) and ([PHONE])"
    )


def test_placeholders_and_counts() -> None:
    text, counts = Redactor("placeholder")(
        "请联系 wang@example.com 或13800138000；IP 47.93.20.111，卡号4111 1111 1111 1111。"
    )
    assert text == "请联系 [EMAIL] 或[PHONE]；IP [IP]，卡号[CARD]。"
    assert counts == {"email": 1, "phone": 1, "ip": 1, "card": 1}
    plain = "Nothing personal in here: 1990-2000, 12,345,678."
    assert Redactor("placeholder")(plain) == (plain, Counter())


def test_pseudonyms_are_keyed_equal_for_equal_data_and_artificial() -> None:
    one, same, other = (Redactor("pseudonym", key) for key in (b"k" * 32, b"k" * 32, b"o" * 32))
    text = "Write to Bob@Example.com or bob@example.com, not bab@example.com; call +86 138 0013 8000 or 13800138000."
    answer, counts = one(text)
    assert same(text)[0] == answer != other(text)[0] and counts == {"email": 3, "phone": 2}
    emails = re.findall(r"user-[0-9a-f]{10}@example\.invalid", answer)
    phones = re.findall(r"\+999\d{11}", answer)
    assert emails[0] == emails[1] != emails[2] and phones[0] == phones[1]
    assert not set(emails) & set(re.findall(r"user-[0-9a-f]+@example\.invalid", other(text)[0]))
    assert "138" not in answer and "bob" not in answer.lower()


@pytest.mark.parametrize(
    ("writings", "kind"),
    [
        (
            ["a.b@example.org", "A.B@EXAMPLE.ORG", "a.b (at) example (dot) org", "ａ．ｂ＠ｅｘａｍｐｌｅ．ｏｒｇ"],
            "email",
        ),
        (["13812345678", "138-1234-5678", "+86 13812345678", "１３８１２３４５６７８", "0086 138 1234 5678"], "phone"),
        (["11010519491231002X", "110105 19491231 002x"], "id"),
        (["4111111111111111", "4111-1111-1111-1111"], "card"),
        (["GB82 WEST 1234 5698 7654 32", "GB82WEST12345698765432"], "iban"),
        (["2400:cb00:0:0:0:0:0:1", "2400:CB00::1"], "ip"),
        (["00-1a-2b-3c-4d-5e", "00:1A:2B:3C:4D:5E"], "mac"),
    ],
)
def test_one_value_has_one_pseudonym_however_it_is_written(writings: list[str], kind: str) -> None:
    redactor = Redactor("pseudonym", b"k" * 32)
    answers = {redactor(f"（{writing}）")[0] for writing in writings}
    assert len(answers) == 1 and redactor(f"（{writings[0]}）")[1] == {kind: 1}


@pytest.mark.parametrize("redactor", [Redactor("placeholder"), Redactor("pseudonym", b"k" * 32)])
def test_what_was_replaced_stays_as_it_is(redactor: Redactor) -> None:
    for seed in range(40):
        once, counts = redactor(Planted("en" if seed % 2 else "zh", seed).text)
        assert counts.total() == 5 and redactor(once) == (once, Counter())
    assert pickle.loads(pickle.dumps(redactor))("a@example.org")[0] == redactor("a@example.org")[0]


def test_modes_that_make_no_sense() -> None:
    with pytest.raises(UserError, match="pseudonyms need a key"):
        Redactor("pseudonym")
    with pytest.raises(UserError, match="is unknown"):
        Redactor("mask")  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("0123456789.-:@ +()/aAfFxX电话：１８＠（ \n\ud800"), max_size=200) | st.text())
def test_any_text(text: str) -> None:
    place = 0
    for found in find(text):
        assert place <= found.start < found.end <= len(text)
        place = found.end
    redacted, counts = Redactor("pseudonym", b"k")(text)
    assert (redacted == text) == (not counts)


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "1 ",
        "12-",
        "(1) ",
        "a@",
        "@",
        "@a.",
        "a@a.",
        "(at)",
        " at a dot ",
        "1.1.",
        ":1",
        "-aa",
        "+1 ",
        "电话1",
        "GB82 ",
        "://a:",
        "138 0013 ",
        "phone: 1234567 ",
        "isbn 978-7-111 ",
        "4111 ",
        "１",
        "＠",
        "a.",
        "6222",
    ],
)
def test_time_is_linear(unit: str) -> None:
    """Ten times as many of each take about ten times as long, and under ten microseconds a character."""

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        start = time.process_time()
        find(text)
        return time.process_time() - start

    short, long = min(seconds(20_000) for _ in range(3)), seconds(200_000)
    assert long < 30 * max(short, 0.005) and long < 2.0


DATA = Path(os.environ.get("WIKIGPT_DATA") or Path(__file__).parents[2] / "shared" / "data") / "xml"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real dumps at {DATA}; set WIKIGPT_DATA")
@pytest.mark.parametrize("name", ["enwiki-206pages.xml.bz2", "zhwiki-33pages.xml.gz"])
def test_false_alarms_in_public_articles(name: str) -> None:
    """Public articles hold next to no personal data, but for the addresses of servers and of unregistered authors."""
    data = (bz2 if name.endswith("bz2") else gzip).open(DATA / name).read().decode()
    pages = re.findall(r"<text[^>]*>(.*?)</text>", data, re.DOTALL)
    text = "\n".join(clean_wikitext(html.unescape(page), lang=name[:2]) for page in pages)
    megabytes = len(text.encode()) / 1e6
    finds = find(text)
    counts = dict(Counter(found.kind for found in finds))
    print(f"\n{name}: {len(finds) / megabytes:.2f} a MB in {megabytes:.1f} MB, {counts}")
    false = [text[max(0, f.start - 30) : f.end + 10] for f in finds if f.kind != "ip"]
    assert len(false) <= megabytes, false
