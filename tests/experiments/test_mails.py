"""Mails as texts: what a reader sees of one, whatever it was sent as."""

import json

from experiments.material.mails import CLASSES, mails, text_of


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
