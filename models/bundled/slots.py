"""How the slots of each kind of fact are drawn: one function per kind, gathered in `MAKERS`.

A slot `who` is the person who owns the fact. The order of draws is part of the training set: changing it
makes another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.bundled.tables import WORDS
from models.bundled.words import Words, capital

if TYPE_CHECKING:
    from collections.abc import Callable

Slots = dict[str, str]


def place(words: Words) -> Slots:
    """Where something is."""
    return {"thing": words.pick(("the ", "the ", "the ", "our ")) + words.thing(), "place": words.place()}


def belonging(words: Words) -> Slots:
    """Where somebody's thing is."""
    return {"who": words.person(), "thing": words.thing(), "place": words.place()}


def moment(words: Words) -> Slots:
    """When something is: `when`, with `day` and `hour` as far as they are said."""
    form = words.rng.random()
    day, hour = words.day(), words.hour()
    if form < 0.55:
        when = f"{day} {hour}" if words.rng.random() < 0.75 else f"{hour} {day}"
        return {"day": day, "hour": hour, "when": when}
    return {"when": day, "day": day} if form < 0.8 else {"when": hour, "hour": hour}


def event(words: Words) -> Slots:
    """A visit, gathering, opening or ride with its verb, its time and perhaps its place."""
    form, slots = words.rng.random(), moment(words)
    if form < 0.3:
        by_trade = words.rng.random() < 0.7
        name = f"the {words.pick(WORDS['visitors'])}" if by_trade else words.person()
        verb = words.pick(("comes|come", "comes|come", "visits|visit", "arrives|arrive"))
    elif form < 0.75:
        noun = words.pick(WORDS["gatherings"]) if words.rng.random() < 0.9 else words.nonsense()
        kind = words.pick(WORDS["gathering_kinds"]) + " " if words.rng.random() < 0.6 else ""
        verbs = ("is|be", "is|be", "starts|start", "begins|begin", "takes place|take place", "ends|end")
        name, verb = f"the {kind}{noun}", words.pick(verbs)
        if words.rng.random() < 0.45:
            slots["place"] = words.place()
    elif form < 0.9:
        verb = words.pick(("opens|open", "closes|close", "opens|open"))
        name = f"the {words.pick(WORDS['openers'])}"
    else:
        verb = words.pick(("leaves|leave", "arrives|arrive"))
        name = f"the {words.pick(WORDS['rides'])} to {words.town()}"
    slots["event"] = name
    slots["verb"], base = verb.split("|")
    slots["ask"] = f"is {name}" if base == "be" else f"does {name} {base}"
    slots["asked"] = f"{name} {slots['verb']}"
    slots["tail"] = slots["when"]
    if "place" in slots:
        pair = (slots["when"], slots["place"])
        slots["tail"] = " ".join(pair if words.rng.random() < 0.5 else pair[::-1])
    slots["bare"] = name.removeprefix("the ")
    return slots


def task(words: Words) -> Slots:
    """Who will do what, perhaps on which day."""
    slots = {"who": words.person(), "task": words.fill(words.pick(WORDS["tasks"]))}
    if words.rng.random() < 0.4:
        slots["day"] = words.day()
    slots["tail"] = f"{slots['task']} {slots['day']}" if "day" in slots else slots["task"]
    return slots


def bring(words: Words) -> Slots:
    """Who brings what."""
    who, article = words.person(), "the " if words.rng.random() < 0.6 else ""
    listed = words.rng.random() < 0.75
    return {
        "who": who,
        "item": article + (words.pick(WORDS["dishes"]) if listed else words.thing(made_up=0.5)),
    }


def favourite(words: Words) -> Slots:
    """What somebody likes best of a category."""
    category = words.pick(WORDS["categories"])
    lists = {"colour": "colours", "food": "dishes", "animal": "pets", "sport": "hobbies", "day": "days"}
    lists |= {"fruit": "foods", "dish": "dishes"}
    if category == "number":
        value = words.digits(1, 3)
    elif category in lists and words.rng.random() < 0.7:
        value = words.pick(WORDS[lists[category]])
    else:
        value = capital(words.nonsense())
    return {"who": words.person(), "cat": category, "val": value}


def like(words: Words) -> Slots:
    """What somebody likes, loves or hates."""
    who, listed = words.person(), words.rng.random() < 0.8
    what = words.pick(WORDS["hobbies"] + WORDS["foods"]) if listed else words.nonsense()
    return {"who": who, "x": what, "v": words.pick(("like", "like", "love", "hate"))}


def allergy(words: Words) -> Slots:
    """What somebody is allergic to."""
    who, listed = words.person(), words.rng.random() < 0.85
    return {"who": who, "x": words.pick(WORDS["allergens"]) if listed else words.nonsense()}


def pet(words: Words) -> Slots:
    """What somebody's animal is called."""
    return {"who": words.person(), "pet": words.pick(WORDS["pets"]), "name": words.person()}


def birthday(words: Words) -> Slots:
    """When somebody's birthday is."""
    who, dated = words.person(), words.rng.random() < 0.7
    return {"who": who, "day": f"on {words.date()}" if dated else words.day()}


def code(words: Words) -> Slots:
    """A code, password or number that belongs to nobody."""
    return {"label": words.fill(words.pick(WORDS["codes"])), "val": words.secret()}


def number(words: Words) -> Slots:
    """Somebody's number or address."""
    whats = ("phone number", "number", "address", "room number", "locker code", "mobile number", "email")
    who, what = words.person(), words.pick(whats)
    if words.rng.random() < 0.75:
        return {"who": who, "what": what, "val": words.digits(5, 10)}
    street = f"{words.rng.randint(1, 199)} {capital(words.nonsense())} "
    return {"who": who, "what": what, "val": street + words.pick(("Street", "Road", "Lane", "Square"))}


def price(words: Words) -> Slots:
    """What something costs."""
    thing, amount = "the " + words.thing(), words.digits(1, 3)
    return {"thing": thing, "val": f"{amount} {words.pick(('euros', 'pounds', 'dollars', 'crowns'))}"}


def count(words: Words) -> Slots:
    """How many of something there are, and where."""
    many = words.digits(1, 3) if words.rng.random() < 0.7 else words.pick(WORDS["hours"][1:-1])
    return {"n": many, "things": words.thing(made_up=0.05).removesuffix("s") + "s", "place": words.place()}


def errand(words: Words) -> Slots:
    """A list of what is needed, and for or from what."""
    head = words.pick(WORDS["errands"])
    items = words.items(WORDS["foods"] if words.rng.random() < 0.7 else WORDS["dishes"])
    return {"head": head, "items": items, "place": head.split(" ", 1)[1]}


def home(words: Words) -> Slots:
    """Where somebody lives, works or stays."""
    who, town = words.person(), words.rng.random() < 0.75
    where = words.town() if town else f"{capital(words.nonsense())} Street"
    return {"who": who, "town": where, "v": words.pick(("live", "live", "work", "stay"))}


def travel(words: Words) -> Slots:
    """Where somebody goes, when, perhaps with whom."""
    who, far = words.person(), words.rng.random() < 0.6
    slots = {
        "who": who,
        "town": words.town() if far else f"the {words.pick(WORDS['openers'])}",
        **moment(words),
    }
    if words.rng.random() < 0.3:
        slots["mate"] = words.person()
    company = f" with {slots['mate']}" if "mate" in slots else ""
    slots["tail"] = f"to {slots['town']} {slots['when']}{company}"
    return slots


def role(words: Words) -> Slots:
    """Who is the plumber, and perhaps when the plumber comes."""
    name = words.pick(WORDS["roles"] if words.rng.random() < 0.4 else WORDS["visitors"])
    person = words.surname() if words.rng.random() < 0.5 else words.person()
    slots = {"role": name, "name": person, **moment(words)}
    if words.rng.random() < 0.5:
        slots.pop("when")
    slots["tail"] = f", {slots['when']}" if "when" in slots else ""
    slots["comes"] = f" and comes {slots['when']}" if "when" in slots else ""
    return slots


def colour(words: Words) -> Slots:
    """What colour something has."""
    return {"thing": "the " + words.thing(), "x": words.pick(WORDS["colours"])}


def reason(words: Words) -> Slots:
    """Why something is closed, late, cancelled."""
    public = words.rng.random() < 0.7
    names = WORDS["openers"] + WORDS["gatherings"] + WORDS["rides"]
    name = f"the {words.pick(names)}" if public else "the " + words.thing()
    return {
        "event": name,
        "state": words.pick(WORDS["states"]),
        "reason": words.fill(words.pick(WORDS["reasons"])),
    }


def hours(words: Words) -> Slots:
    """When a public place is open or closed."""
    name = "the " + words.pick(WORDS["openers"])
    return {"opener": name, "state": words.pick(("open", "open", "closed")), "when": words.opening()}


def chore(words: Words) -> Slots:
    """What happens when, with verbs that the events lack."""
    subject, verb, base, aux = words.fill(words.pick(WORDS["chores"])).split("|")
    ask = f"{aux} {subject} {base}" if aux else f"is {subject} {base.removeprefix('be ')}"
    day, hour = words.day(), words.hour()
    when = words.pick((day, hour, f"{day} {hour}", f"{hour} {day}"))
    return {"subject": subject, "verb": verb, "ask": ask, "when": when}


def ours(words: Words) -> Slots:
    """What our cat, boat or street is called."""
    kinds = (*WORDS["pets"], "boat", "street", "team", "club", "house", "baby", "car")
    return {"pet": words.pick(kinds), "name": words.person()}


def attribute(words: Words) -> Slots:
    """Any property of any thing, some of them made up."""
    what = words.pick(WORDS["attributes"]) if words.rng.random() < 0.75 else words.nonsense()
    thing = words.rng.random() < 0.6
    of = f"the {words.thing()}" if thing else f"the {words.pick(WORDS['gatherings'] + WORDS['openers'])}"
    value = words.secret() if words.rng.random() < 0.4 else words.either_case(words.nonsense)
    if words.rng.random() < 0.25:
        units = ("metres", "kilos", "years", "litres", "grams", "minutes", "centimetres")
        value = f"{words.digits(1, 3)} {words.pick(units)}"
    return {"what": what, "of": of, "val": value}


def deed(words: Words) -> Slots:
    """What somebody did; only the past, which is the same in all persons."""
    past, base = words.pick(WORDS["deeds"]).split("|")
    article = (words.person(), words.pick(("the ", "the ", "a ")))
    return {"who": article[0], "past": past, "base": base, "thing": article[1] + words.thing(made_up=0.25)}


def age(words: Words) -> Slots:
    """How old somebody is."""
    return {"who": words.person(), "n": words.digits(1, 2)}


MAKERS: dict[str, Callable[[Words], Slots]] = {
    "place": place, "belonging": belonging, "event": event, "task": task, "bring": bring,
    "favourite": favourite, "like": like, "allergy": allergy, "pet": pet, "birthday": birthday,
    "code": code, "number": number,
    "price": price, "count": count, "list": errand, "home": home, "travel": travel, "role": role,
    "colour": colour, "reason": reason, "moved": place, "hours": hours, "chore": chore, "ours": ours,
    "attribute": attribute, "deed": deed, "age": age,
}  # fmt: skip
