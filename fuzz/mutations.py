"""Damage: what is done to a clip, known by a seed and a number alone."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fuzz.layout import Part, parts_of

# How many kinds of damage one clip gets.
_STEPS = (1, 1, 1, 1, 2, 2, 3)
_LONGEST_RUN = 48
_LONGEST_HEADER = 100


@dataclass(frozen=True)
class Mutation:
    """One damaged clip.

    Attributes:
        seed: of the campaign.
        number: within the campaign.
        clip: name of the clip it was made from.
        kinds: the kinds of damage, in order.
        steps: what was done, in order, in words.
        data: the file.
    """

    seed: int
    number: int
    clip: str
    kinds: tuple[str, ...]
    steps: tuple[str, ...]
    data: bytes

    @property
    def title(self) -> str:
        """Seed, number and what was done."""
        return f"seed {self.seed} number {self.number}, {self.clip}: {'; '.join(self.steps)}"


@dataclass
class Patient:
    """A clip while it is being damaged.

    Attributes:
        name: of the clip.
        data: its bytes so far.
        others: the valid clips, by name.
        draw: where chance comes from.
    """

    name: str
    data: bytearray
    others: Mapping[str, bytes]
    draw: random.Random

    def parts(self, *, media: bool | None = None, leaf: bool | None = None) -> list[Part]:
        """Return the parts of the clip as it is now, those with a body; all, or those with or without coded frames."""
        return [
            part
            for part in parts_of(self.name, self.data)
            if part.body < part.end and media in {None, part.is_media} and leaf in {None, part.leaf}
        ]

    def run(self) -> tuple[int, int]:
        """Choose a short run of bytes anywhere."""
        start = self.draw.randrange(len(self.data))
        return start, min(len(self.data), start + self.draw.randint(1, _LONGEST_RUN))

    def replace(self, start: int, end: int, new: bytes) -> None:
        """Replace whole parts by others, and correct the sizes of the parts around them."""
        around = [part for part in self.parts() if not part.leaf and part.body <= start and end <= part.end]
        for part in around:
            part.write_size(self.data, part.end - part.size_counts + len(new) - (end - start))
        self.data[start:end] = new


def mutate(clips: Mapping[str, bytes], seed: int, number: int) -> Mutation:
    """Damage a clip. The clips are taken in turn; everything else is drawn, from the seed and the number."""
    draw = random.Random(f"{seed}/{number}")  # noqa: S311 - repeatable, not secret
    names = list(clips)
    name = names[number % len(names)]
    patient = Patient(name, bytearray(clips[name]), clips, draw)
    kinds, steps = [], []
    for _ in range(draw.choice(_STEPS)):
        kind = draw.choices(list(_DAMAGE), [weight for weight, _ in _DAMAGE.values()])[0]
        kinds.append(kind)
        steps.append(f"{kind}: {_DAMAGE[kind][1](patient)}")
        if not patient.data:
            break
    return Mutation(seed, number, name, tuple(kinds), tuple(steps), bytes(patient.data))


def _flip_media(patient: Patient) -> str:
    parts = patient.parts(media=True)
    # The part that follows a damaged frame is judged by it, so late damage leaves more of the clip intact.
    return _flip(patient, parts[int(len(parts) * patient.draw.random() ** 0.5)]) if parts else "no coded frame left"


def _flip_header(patient: Patient) -> str:
    parts = patient.parts(media=False, leaf=True)
    return _flip(patient, patient.draw.choice(parts)) if parts else "no header left"


def _flip_anything(patient: Patient) -> str:
    whole = Part("the file", 0, 0, len(patient.data), True, None, 0, "big", 0)
    return _flip(patient, whole)


def _flip(patient: Patient, part: Part) -> str:
    bits = []
    for _ in range(patient.draw.choice((1, 1, 1, 2, 4))):
        # Late in the part, more often than early, for the same reason.
        offset = part.body + int((part.end - part.body) * patient.draw.random() ** 0.5)
        bit = patient.draw.randrange(8)
        patient.data[offset] ^= 1 << bit
        bits.append(f"{offset}.{bit}")
    return f"bits {', '.join(bits)} in {part.name}"


def _overwrite(patient: Patient) -> str:
    start, end = patient.run()
    fill = patient.draw.choice((b"\0", b"\xff", b"\0\0\1", None))
    length = end - start
    patient.data[start:end] = patient.draw.randbytes(length) if fill is None else (fill * length)[:length]
    return f"bytes {start} to {end} with {'noise' if fill is None else fill.hex()}"


def _truncate(patient: Patient) -> str:
    kept = max(1, int(len(patient.data) * patient.draw.random() ** 0.3))
    del patient.data[kept:]
    return f"to {kept} bytes"


def _append(patient: Patient) -> str:
    length = patient.draw.randint(1, 600)
    patient.data += patient.draw.choice((patient.draw.randbytes(length), bytes(length), bytes(patient.data[-length:])))
    return f"{length} bytes"


def _resize(patient: Patient) -> str:
    parts = [part for part in patient.parts() if part.size_at is not None]
    if not parts:
        return "no size left"
    part = patient.draw.choice(parts)
    size = part.end - part.size_counts
    new = _other_number(patient.draw, size, part.largest_size)
    part.write_size(patient.data, new)
    return f"{part.name} at {part.start} from {size} to {new}"


def _set_field(patient: Patient) -> str:
    parts = patient.parts(leaf=True)
    headers = [part for part in parts if not part.is_media]
    if not parts:
        return "nothing left"
    # Coded frames have headers too, at their beginning.
    part = patient.draw.choice(headers if headers and patient.draw.random() < 0.8 else parts)
    reach = min(part.end - part.body, _LONGEST_HEADER)
    length = min(patient.draw.choice((1, 2, 4, 4, 4, 8)), reach)
    offset = part.body + length * patient.draw.randrange(reach // length)
    old = int.from_bytes(patient.data[offset : offset + length], part.order)
    new = _other_number(patient.draw, old, (1 << 8 * length) - 1)
    patient.data[offset : offset + length] = new.to_bytes(length, part.order)
    return f"{length} bytes at {offset} in {part.name} from {old} to {new}"


def _other_number(draw: random.Random, old: int, largest: int) -> int:
    """Choose a number that a reader may stumble over."""
    extreme = (0, 1, largest, largest - 1, largest // 2, largest // 2 + 1)
    near = (old - 1, old + 1, old * 2, old // 2, old + draw.randint(2, 64), old - draw.randint(2, 64))
    return min(max(draw.choice(draw.choice((extreme, near, (draw.randint(0, largest),)))), 0), largest)


def _splice(patient: Patient) -> str:
    other = patient.draw.choice(list(patient.others))
    tail = patient.others[other]
    if patient.draw.random() < 0.5:
        cuts = [_boundary(patient.draw, patient.name, patient.data), _boundary(patient.draw, other, tail)]
        where = "between parts"
    else:
        share = patient.draw.random()
        cuts = [max(1, int(share * len(data))) for data in (patient.data, tail)]
        where = "anywhere"
    patient.data[cuts[0] :] = tail[cuts[1] :]
    return f"{where}, {cuts[0]} bytes and then {other} from {cuts[1]} on"


def _boundary(draw: random.Random, name: str, data: bytes | bytearray) -> int:
    return draw.choice([part.start for part in parts_of(name, data) if part.start] or [max(1, len(data) // 2)])


def _transplant(patient: Patient) -> str:
    """Put coded frames of another clip where this one has its own, size corrected."""
    other = patient.draw.choice(list(patient.others))
    donors = [part for part in parts_of(other, patient.others[other]) if part.is_media]
    places = patient.parts(media=True)
    if not places or not donors:
        return "no coded frame left"
    place, donor = patient.draw.choice(places), patient.draw.choice(donors)
    new = patient.others[other][donor.body : donor.end]
    if patient.draw.random() < 0.5 or place.size_at is None:
        new = new[: place.end - place.body]
        patient.data[place.body : place.body + len(new)] = new
        return f"{len(new)} bytes of {other} over {place.name} at {place.start}"
    patient.replace(place.body, place.end, new)
    place.write_size(patient.data, len(new) + place.body - place.size_counts)
    return f"{len(new)} bytes of {other} instead of {place.name} at {place.start}"


def _duplicate(patient: Patient) -> str:
    start, end, what = _piece(patient)
    patient.replace(end, end, bytes(patient.data[start:end]))
    return what


def _delete(patient: Patient) -> str:
    start, end, what = _piece(patient)
    patient.replace(start, end, b"")
    return what


def _swap(patient: Patient) -> str:
    first, second = sorted((_piece(patient), _piece(patient)))
    if first[1] > second[0]:
        return "nothing, one is in the other"
    data = patient.data
    between = data[first[1] : second[0]]
    data[first[0] : second[1]] = data[second[0] : second[1]] + between + data[first[0] : first[1]]
    return f"{first[2]} and {second[2]}"


def _piece(patient: Patient) -> tuple[int, int, str]:
    """Choose a whole part, or a run of bytes."""
    parts = patient.parts()
    if parts and patient.draw.random() < 0.7:
        part = patient.draw.choice(parts)
        return part.start, part.end, f"{part.name} at {part.start}"
    start, end = patient.run()
    return start, end, f"bytes {start} to {end}"


# Each kind of damage with its weight. Gentle kinds weigh more: a clip that no longer opens tests the probe only.
_DAMAGE: Mapping[str, tuple[int, Callable[[Patient], str]]] = {
    "flip coded bits": (5, _flip_media),
    "flip header bits": (4, _flip_header),
    "flip any bits": (1, _flip_anything),
    "overwrite": (2, _overwrite),
    "truncate": (2, _truncate),
    "append": (1, _append),
    "resize": (2, _resize),
    "set a field": (5, _set_field),
    "splice": (2, _splice),
    "transplant": (2, _transplant),
    "duplicate": (2, _duplicate),
    "delete": (2, _delete),
    "swap": (2, _swap),
}
KINDS: Sequence[str] = tuple(_DAMAGE)
