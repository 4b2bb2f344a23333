"""Mails as texts: what a reader sees of one, whatever it was sent as."""

import json
import sys

import numpy as np

from experiments.material import mails as material
from experiments.material.mails import CLASSES, mails, sides, text_of


def test_the_plain_part_is_taken_without_the_header():
    mail = (
        "Received: from here\nSubject: =?iso-8859-1?q?caf=E9?= at noon\nContent-Type: multipart/alternative; boundary=x\n\n"
        "--x\nContent-Type: text/plain\n\nCome   at\n\n\n\n noon.\n"
        "--x\nContent-Type: text/html\n\n<p>Come at <b>noon</b>.</p>\n--x--\n"
    )
    assert text_of(mail) == "café at noon\n\nCome at\n\nnoon."


def test_a_page_alone_is_read_without_its_markup():
    mail = (
        "Subject: win\nContent-Type: text/html; charset=unheard-of\nContent-Transfer-Encoding: base64\n\n"
        # <head><title>t</title></head><style>p {}</style><p>Click <a href=x>here</a> &amp; win</p>
        "PGhlYWQ+PHRpdGxlPnQ8L3RpdGxlPjwvaGVhZD48c3R5bGU+cCB7fTwvc3R5bGU+PHA+Q2xpY2sgPGEgaHJlZj14PmhlcmU8L2E+ICZhbXA7IHdpbjwvcD4=\n"
    )
    assert text_of(mail) == "win\n\nClick here & win"


def test_groups_are_classes(tmp_path):
    for group in CLASSES:
        (tmp_path / "data" / group).mkdir(parents=True)
        (tmp_path / "data" / group / "1.json").write_text(json.dumps({"text": f"Subject: {group}\n\nwords"}))
    found = {name: (label, text) for label, name, text in mails(tmp_path)}
    assert found["spam-2-1"] == ("spam", "spam-2\n\nwords") and found["hard-ham-1-1"][0] == "ham" and len(found) == 5


def test_the_same_mail_twice_is_on_one_side():
    texts = [f"mail {n % 800}" for n in range(1_000)]
    found = np.array(sides(texts))
    assert (found[800:] == found[:200]).all()
    counts = {side: np.mean(found == side) for side in ("train", "validation", "test")}
    assert np.allclose([counts["validation"], counts["test"], counts["train"]], [0.2, 0.16, 0.64], atol=0.04)


def test_each_mail_is_written_once(tmp_path, monkeypatch):
    for group in CLASSES:
        (tmp_path / "package/data" / group).mkdir(parents=True)
        for number in range(30):
            mail = {"text": f"Subject: {group} {number}\n\nwords"}
            (tmp_path / f"package/data/{group}/{number}.json").write_text(json.dumps(mail))
    (tmp_path / "package/data/spam-1/blank.json").write_text(json.dumps({"text": "Subject:\n\n"}))
    monkeypatch.setattr(sys, "argv", ["mails", str(tmp_path / "package"), str(tmp_path / "out")])
    material.main()
    files = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.txt")]
    assert {file.parts[:2] for file in files} == {
        (s, c) for s in ("train", "validation", "test") for c in ("ham", "spam")
    }
    assert len({file.name for file in files}) == len(files) == 150
