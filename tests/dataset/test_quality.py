"""The rules that find spoiled text, on cases made by hand: what each must find, and what each must spare."""

from __future__ import annotations

import pytest

from dataset.curation.quality import cut_if_unfinished, cut_unfinished, looping, mojibake, unfinished

DOG = "图中有一只棕色的小狗在绿色的草地上奔跑，它看起来非常开心，阳光洒在它的身上"
SAID = "你好，世界。一只小狗在草地上奔跑。"


@pytest.mark.parametrize(
    "text",
    [
        "一只狗在草地上，" * 5,
        "的" * 60,
        "A man is standing. A man is standing. A man is standing.",
        "the red car and " * 4,
        "1. a red car 2. a red car 3. a red car 4. a red car 5. a red car",  # numbers do not make it differ
        "图中有一个人站在街上。背景里有树。图中有一个人站在街上。有车。图中有一个人站在街上。",
        "The sky is blue and the sea is green. " + "there is a tree beside the house, " * 6 + "and",
        "".join(f"{a}色的花和{b}色的草在一起" for a, b in ["红绿", "绿红"] * 16),
    ],
)
def test_looping_text_is_found(text):
    assert looping(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "哈哈哈哈哈哈哈哈",
        "是的，是的，是的，是的。",
        "ha ha ha ha ha",
        "No. No. No.",
        "1. 苹果\n2. 香蕉\n3. 橙子\n4. 葡萄\n5. 西瓜",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14",
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n| --- | --- |",
        "----------------------------------------",
        "```python\nprint(x)\nprint(x)\nprint(x)\nprint(x)\nprint(x)\nprint(x)\n```",
        "x = [zero, zero, zero, zero, zero, zero, zero, zero, zero, zero]; f(x) = {zero}; y[x] = (x) + [x] * {x};",
        "<td></td><td></td><td></td><td></td><td></td><td></td><td></td><td></td>",
        "知之为知之，不知为不知，是知也。",
        "The cat sat on the mat. The dog sat on the rug. The bird sat on the branch. The fish swam in the pond.",
        "左边有一只猫，右边有一只狗，前面有一辆车，后面有一棵树，远处有一座山，天上有一只鸟。",
        f"{DOG}。远处的山上还有积雪，湖面倒映着蓝天白云。岸边停着一条木船，船上坐着两位钓鱼的老人，他们正在聊天。",
    ],
)
def test_what_only_looks_like_looping_is_spared(text):
    assert looping(text) == ""


@pytest.mark.parametrize(
    "text, reads",
    [
        (SAID.encode().decode("latin-1"), "你好，世"),
        (SAID.encode().decode("cp1252", "ignore"), "read as Latin-1"),
        ("café".encode().decode("cp1252"), "'é'"),
        ("don’t".encode().decode("cp1252"), "'’'"),
        ("Bär und Öl".encode().decode("latin-1"), "'äÖ'"),
        (SAID.encode().decode("gbk", "ignore"), "read as GBK"),
        ("你好".encode().decode("gbk"), "'你好'"),
        ("the answer: " + "小狗".encode().decode("gbk") + ".", "'小狗'"),
        ("你好世界".encode("gbk").decode("latin-1"), "'你好世界'"),
        (SAID.encode().decode("gbk", "replace"), "U+FFFD"),
        ("a \ufffd b", "1 × U+FFFD"),
        ("锟斤拷锟斤拷", "锟斤拷"),
        ("bell\x99", "control"),
    ],
)
def test_wrongly_decoded_text_is_found_and_what_it_says_is_told(text, reads):
    assert reads in mojibake(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", SAID, "café, naïve, Zürich, señor", "CAFÉ’S menu", "„Spaß“ und „Ä“", "« É » très «été»", "À É Î Ö",
        "联通 中国联通公司", "鬼魅魍魉魑 饕餮 囹圄 龌龊 踟蹰 氤氲 旖旎", "繁體中文測試，臺灣",
        "日本語のテキスト、カタカナ", "한국어 텍스트", "Привет, мир", "“引号”…——", "25°C ± 3 µm ½ × 2", "x² + y³ ≈ ∞",
        "emoji 😀👍",
    ],
)  # fmt: skip
def test_rightly_decoded_text_of_any_language_is_spared(text):
    assert mojibake(text) == ""


@pytest.mark.parametrize(
    "text, left",
    [
        (f"{DOG}。另外", f"{DOG}。"),
        (f"{DOG}。另外，它的旁边还有一只", f"{DOG}。"),
        ("一只猫，", ""),
        ("看这里：", ""),
        (DOG, ""),
        ("The picture shows a dog that runs on the grass. It has a ball in its mouth and looks very happy because it",
         "The picture shows a dog that runs on the grass."),
        ("He is 3.5 m tall and plays with the ball of the neighbours of Mr. Smith who lives in the old house of", ""),
        ("1. 第一点是图中有一只棕色的小狗。\n2. 第二点是草地上有很多花朵。\n3. 第三点是天空中有",
         "1. 第一点是图中有一只棕色的小狗。\n2. 第二点是草地上有很多花朵。"),
        ("他说：“走吧，我们去公园里看看美丽的花朵吧。”然后他们", "他说：“走吧，我们去公园里看看美丽的花朵吧。”"),
        ("Here it is:\n```python\nprint('a')", ""),
    ],
)
def test_an_answer_that_breaks_off_is_found_and_cut_back_to_its_last_full_stop(text, left):
    assert unfinished(text)
    assert cut_unfinished(text) == left and cut_if_unfinished(text) == (left or text)


@pytest.mark.parametrize(
    "text",
    [
        "", "一只猫", "Yes", "42", "一只猫。它", f"{DOG}。", f"{DOG}！”", f"{DOG}（见图）", f"{DOG}😀", f"{DOG}。\n\n",
        "A dog. It runs on the grass with a ball in its mouth and looks very happy, as dogs do.",
        "Here is the list:\n- an apple of green colour and taste\n- a banana of yellow colour\n- an orange of the shop",
        "| name | colour |\n| --- | --- |\n" + "| apple of the garden | green and red |\n" * 5,
        "Use this function to add two numbers of whatever size you may have in mind for your work:\n```\na + b\n```",
        "So the whole sum that was asked for by the teacher of the class in the school of the town is 3 + 4 = 7",
        "More about the dogs of the world and of what they like to eat is told at the page https://example.org/dogs",
    ],
)
def test_an_answer_that_ends_well_is_left_as_it_is(text):
    assert unfinished(text) == "" and cut_if_unfinished(text) == text
