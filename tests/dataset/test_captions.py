"""Captions say what the facts say, all of it and nothing else, in four lengths and two languages."""

from __future__ import annotations

import random
import re
from statistics import mean

import pytest

from dataset.picturebook import captions_en, captions_zh
from dataset.picturebook.captions import LANGUAGES, caption
from dataset.picturebook.corpus import SEPARATOR, lexicon, lexicon_en, main, words
from dataset.picturebook.facts import COLOURS, KINDS, PLACES, Relation, Scene, Thing
from dataset.picturebook.telling import LENGTHS, in_a_row, notable_size, units
from dataset.picturebook.world import make_scene

BANDS = {  # characters, shortest and longest
    "zh": {"phrase": (6, 45), "sentence": (9, 65), "paragraph": (24, 90), "long": (64, 175)},
    "en": {"phrase": (12, 115), "sentence": (22, 190), "paragraph": (70, 270), "long": (170, 520)},
}
SCENES = [make_scene(split, i) for split in ("train", "compositional") for i in range(300)]


def kind_words(language: str) -> dict[str, str]:
    """Word -> kind."""
    found = {}
    for kind in KINDS.values():
        if language == "zh":
            names = (kind.zh, *kind.zh_synonyms)
        else:
            names = (kind.en, kind.en_plural, *kind.en_synonyms)
        found.update(dict.fromkeys(names, kind.name))
    return found


def take_out(text: str, found: dict[str, str], language: str) -> tuple[set[str], str]:
    """The names whose words stand in the text (the longest at each spot), and the text without them."""
    one_of = "|".join(sorted(map(re.escape, found), key=len, reverse=True))
    pattern = re.compile(one_of if language == "zh" else rf"(?i)\b(?:{one_of})\b")
    named = {found[word.lower()] for word in pattern.findall(text)}
    return named, pattern.sub("~", text)


def place_words(language: str) -> dict[str, str]:
    return {w: p.name for p in PLACES.values() for w in (p.zh_words if language == "zh" else p.en_words)}


def thing(kind: str, **facts) -> Thing:
    """One medium thing in the middle, with the kind's first colour and action unless told."""
    known = KINDS[kind]
    colour, action = (known.colours or (None,))[0], (known.actions or (None,))[0]
    return Thing(
        **{
            "kind": kind, "colour": colour, "count": 1, "action": action, "size": "medium",
            "x": 0.5, "y": 0.9, "height": known.height, "flip": False, **facts,
        }
    )  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_caption_names_every_kind_and_the_place_and_no_other(language, length):
    rng = random.Random(0)
    for scene in SCENES:
        text = caption(scene, length, rng, language)
        kinds, rest = take_out(text, kind_words(language), language)
        places, _ = take_out(rest, place_words(language), language)
        assert kinds == {t.kind for t in scene.things}, text
        assert places == {scene.place}, text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_count_and_colour_is_said_of_its_thing(language, length):
    rng = random.Random(1)
    for scene in SCENES[:150]:
        text = caption(scene, length, rng, language)
        for one in scene.things:
            forms = [LANGUAGES[language].noun_phrase(one)]
            if language == "zh":
                forms.append(captions_zh.noun_phrase(one, short=True))
            assert any(form.lower() in text.lower() for form in forms), (text, forms)


def test_noun_phrases_are_grammatical():
    zh, en = captions_zh.noun_phrase, captions_en.noun_phrase
    assert zh(thing("dog", colour="brown")) == "一只棕色的小狗"
    assert zh(thing("dog", colour="brown"), short=True) == "一只棕色小狗"
    assert zh(thing("horse", colour="brown", count=2), short=True) == "两匹棕色的马"
    assert zh(thing("woman", colour="red", count=3)) == "三个穿红衣服的女人"
    assert zh(thing("astronaut")) == "一名宇航员"
    assert en(thing("dog", colour="brown")) == "a brown dog"
    assert en(thing("umbrella", colour="orange")) == "an orange umbrella"
    assert en(thing("elder", colour="gray")) == "an old man in gray"
    assert en(thing("child", colour="red", count=2)) == "two children in red"
    assert en(thing("sheep", colour="white", count=3)) == "three white sheep"
    assert en(thing("sun")) == "the sun" and en(thing("elephant")) == "an elephant"


@pytest.mark.parametrize("language", LANGUAGES)
def test_lengths_stay_in_their_bands_and_grow(language):
    rng = random.Random(2)
    means = []
    for length in LENGTHS:
        sizes = [len(caption(scene, length, rng, language)) for scene in SCENES]
        low, high = BANDS[language][length]
        assert low <= min(sizes) and max(sizes) <= high, (length, min(sizes), max(sizes))
        means.append(mean(sizes))
    assert all(one * 1.2 < other for one, other in zip(means, means[1:], strict=False)), means


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_said_twice(language):
    rng = random.Random(3)
    for scene in SCENES:
        for length in ("paragraph", "long"):
            text = caption(scene, length, rng, language)
            sentences = [s.strip() for s in re.split("[。.]", text) if s.strip()]
            assert len(sentences) == len(set(sentences)), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_decides_the_caption_and_seeds_differ(language):
    for length in LENGTHS:
        one = [caption(scene, length, random.Random(7), language) for scene in SCENES[:20]]
        assert one == [caption(scene, length, random.Random(7), language) for scene in SCENES[:20]]
        assert len({caption(SCENES[0], length, random.Random(seed), language) for seed in range(30)}) > 1, length


@pytest.mark.parametrize("language", LANGUAGES)
def test_positions_and_rows_are_true(language):
    left, right = thing("dog", x=0.2), thing("cat", x=0.8)
    text = caption(Scene(1, "park", (left, right)), "long", random.Random(0), language)
    if language == "zh":
        assert re.search("小狗在(画面的)?左边", text) and re.search("猫咪在(画面的)?右边", text)
        assert "从左到右依次是小狗、猫咪。" in text
    else:
        assert "From left to right: the dog, the cat." in text
    assert in_a_row(Scene(1, "park", (left, right))) == [left, right]
    assert in_a_row(Scene(1, "park", (thing("dog", x=0.81), thing("cat", x=0.88)))) == []
    sky = Scene(1, "park", (left, thing("sun", x=0.9)))
    assert in_a_row(sky) == []
    said = caption(sky, "long", random.Random(0), language)
    assert ("太阳挂在天上" if language == "zh" else "The sun is in the sky") in said


@pytest.mark.parametrize(
    ("relation", "kinds", "zh", "en"),
    [
        ("riding", ("child", "horse"), "孩子骑着一匹棕色的马", "is riding a brown horse"),
        ("riding", ("child", "boat"), "孩子坐在一艘白色的小船上", "is sitting in a white boat"),
        ("holding", ("child", "kite"), "孩子拿着一只红色的风筝", "is holding a red kite"),
        ("on", ("lamp", "table"), "台灯放在一张棕色的桌子上", "is on a brown table"),
        ("on", ("cat", "chair"), "猫咪坐在一把棕色的椅子上", "is sitting on a brown chair"),
    ],
)
def test_relations_are_told_from_the_sentence_on(relation, kinds, zh, en):
    things = tuple(thing(kind) for kind in kinds)
    if kinds[0] == "child":
        things = (thing("child", action="sitting"), things[1])
    scene = Scene(1, "sea", things, Relation(relation, 0, 1))
    assert len(units(scene)) == 1
    for length in ("sentence", "paragraph"):
        assert zh in caption(scene, length, random.Random(0), "zh")
        assert en in caption(scene, length, random.Random(0), "en")


def test_a_size_is_notable_only_where_it_was_drawn_so():
    high = KINDS["dog"].height
    assert notable_size(thing("dog", size="large", height=high * 1.18)) == "large"
    assert notable_size(thing("dog", size="large", height=high * 0.8)) is None
    assert notable_size(thing("dog", size="small", height=high * 0.82)) == "small"
    assert notable_size(thing("dog")) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_backgrounds_and_moods_name_no_kind_no_colour_and_no_other_place(language):
    texts = LANGUAGES[language]
    assert set(texts.BACKGROUNDS) == set(PLACES)
    for place, told in [*texts.BACKGROUNDS.items(), ("", texts.MOODS)]:
        for text in told:
            kinds, rest = take_out(text, kind_words(language), language)
            assert not kinds, text
            assert take_out(rest, place_words(language), language)[0] <= {place}, text
            colours = [c.zh for c in COLOURS.values()] if language == "zh" else list(COLOURS)
            assert not any(re.search(rf"\b{c}\b" if language == "en" else c, text) for c in colours), text


def test_prompts_tell_the_lengths_apart_and_an_unknown_length_is_refused():
    for language, texts in LANGUAGES.items():
        prompts = texts.PROMPTS
        assert tuple(prompts) == LENGTHS
        every = [prompt for told in prompts.values() for prompt in told]
        assert len(every) == len(set(every))
        with pytest.raises(ValueError, match="phrase, sentence, paragraph, long"):
            caption(SCENES[0], "epic", random.Random(0), language)


def test_words_join_to_the_text_again_and_know_the_vocabulary():
    rng = random.Random(4)
    for language in LANGUAGES:
        for scene in SCENES[:50]:
            text = caption(scene, "long", rng, language)
            pieces = words(text)
            assert "".join(pieces) == text
    assert words("两只棕色的小狗正在奔跑。") == ["两只", "棕色", "的", "小狗", "正在", "奔跑", "。"]
    assert words("A brown dog, 12 cats.") == ["A", " brown", " dog", ",", " 12", " cats", "."]
    odd = "\n\t <|im_end|>é漢字🐼_ a"
    assert "".join(words(odd)) == odd and words("") == []
    assert {"小狗", "红色", "一只", "海边", "奔跑"} <= lexicon()
    assert {"dogs", "red", "old", "sea"} <= lexicon_en()


def test_the_corpus_is_one_text_a_line_and_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        main(["--scenes", "3", "--out", str(tmp_path / "new" / name)])
    one = (tmp_path / "new" / "a").read_text(encoding="utf-8")
    assert one == (tmp_path / "new" / "b").read_text(encoding="utf-8")
    lines = one.splitlines()
    scene = make_scene("train", 0)
    assert "assistant" in lines and all(line for line in lines)
    assert any(PLACES[scene.place].zh in line.replace(SEPARATOR, "") for line in lines)
    assert any(SEPARATOR in line for line in lines)
