"""What to land next: a pure function of the bus's watermarks, the ledger and what is under way.

What belongs here: ranges, their cutting into runs, and what counts as a gap. What does not: any connection or clock;
:func:`survey` reads both sides once, the rest computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from resources.kafka import Bus, Topic
from resources.ledger import ENDS_GENERATION, NAMES_RANGE, Gap, Interval, Ledger, Partition, Range, Seen, missing

Marks = Mapping[Partition, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Survey:
    """Both sides at one time: the ledger's and the bus's."""

    seen: Mapping[Partition, Seen]
    landed: Mapping[tuple[str, int, int], Sequence[Interval]]
    gaps: Sequence[Gap]
    topics: Mapping[str, Topic]
    marks: Marks
    policies: Mapping[str, str]


@dataclass(slots=True)
class State:
    """Where landing of each partition stands, and what has to be written before anything is landed."""

    #: Partitions that may be landed, in a fixed order.
    current: dict[Partition, Seen] = field(default_factory=dict)
    #: Partitions that the ledger does not know in this generation yet.
    new: dict[Partition, Seen] = field(default_factory=dict)
    #: What was found wrong and may not be known to the ledger yet.
    gaps: list[Gap] = field(default_factory=list)


def survey(names: Iterable[str], bus: Bus, ledger: Ledger) -> Survey:
    """Read the watermarks of the topics ``names`` and the ledger once."""
    wanted = list(names)
    topics = bus.topics(wanted)
    # The ledger after the watermarks: what was landed meanwhile shows as landed, never as missing below a watermark.
    return Survey(
        marks=bus.watermarks_of(topics.values()),
        topics=topics,
        policies=bus.policies(topics),
        seen={at: seen for at, seen in ledger.seen().items() if at[0] in wanted},
        landed=ledger.landed(),
        gaps=[gap for gap in ledger.gaps() if gap.topic in wanted],
    )


def assess(survey: Survey, requested: Mapping[Partition, int] | None = None, under_way: Iterable[Range] = ()) -> State:
    """Return the state of each partition: what may be landed, what is new, and what is wrong.

    ``requested`` holds the next offset of each partition by the sensor's cursor; a broker that ends before it has lost
    records as surely as one that ends before what was landed. A range that is under way has not aged out: its run
    tells.
    """
    state = State()
    busy = list(under_way)
    for name in sorted({*survey.topics, *(topic for topic, _ in survey.seen)}):
        _assess_topic(name, survey, requested or {}, busy, state)
    return state


def _assess_topic(
    name: str, survey: Survey, requested: Mapping[Partition, int], busy: Sequence[Range], state: State
) -> None:
    known = {at: seen for at, seen in survey.seen.items() if at[0] == name}
    generation = max((seen.generation for seen in known.values()), default=0)
    topic = survey.topics.get(name)
    ended = [
        gap for gap in survey.gaps if gap.topic == name and gap.kind in ENDS_GENERATION and gap.generation == generation
    ]
    if any(gap.state == "open" for gap in ended):
        return
    if topic is None:
        if not ended:
            state.gaps.append(Gap("deleted", name, -1, generation, 0, 0, f"topic {name} is not on the broker any more"))
        return
    if ended:
        # A person confirmed the end of this generation: the topic's offsets, as they are now, are the next one's.
        generation, known = generation + 1, {}
    elif wrong := _broken(topic, known, survey, requested):
        state.gaps.append(wrong)
        return
    if "compact" in survey.policies.get(name, ""):
        detail = f"topic {name} is compacted: the broker removes records, some perhaps before they are landed"
        state.gaps.append(Gap("compacted", name, -1, generation, 0, 0, detail))
    for partition in topic.partitions:
        at = (name, partition)
        if at not in survey.marks:
            continue
        low, high = survey.marks[at]
        seen = known.get(at)
        if seen is None:
            seen = state.new[at] = Seen(generation, topic.id, low)
        state.current[at] = seen
        covered = _covered(survey, at, generation, busy)
        state.gaps.extend(
            Gap(
                "aged_out", name, partition, generation, first, last, f"the log begins at {low}: they aged out unlanded"
            )
            for first, last in missing((seen.start, min(low, high)), covered)
        )


def _broken(
    topic: Topic, known: Mapping[Partition, Seen], survey: Survey, requested: Mapping[Partition, int]
) -> Gap | None:
    """Return the gap that says that these are not the offsets that were landed before, if so."""
    for at, seen in sorted(known.items()):
        if topic.id and seen.topic_id and topic.id != seen.topic_id:
            detail = f"topic {topic.name} was deleted and made anew: its id was {seen.topic_id} and is {topic.id}"
            return Gap("recreated", topic.name, -1, seen.generation, 0, 0, detail)
        if at not in survey.marks:
            if at[1] in topic.partitions:
                continue
            detail = f"partition {at[1]} of topic {topic.name} is gone: the topic was made anew with fewer"
            return Gap("recreated", topic.name, -1, seen.generation, 0, 0, detail)
        high = survey.marks[at][1]
        landed = survey.landed.get((*at, seen.generation), ())
        reached = max(landed[-1][1] if landed else seen.start, requested.get(at, 0))
        if high < reached:
            detail = f"partition {at[1]} ends at {high}, but offsets up to {reached} were read: made anew or cut"
            return Gap("truncated", topic.name, at[1], seen.generation, high, reached, detail)
    return None


def _covered(survey: Survey, at: Partition, generation: int, busy: Iterable[Range]) -> list[Interval]:
    """Return what of a partition needs no run: landed, recorded as a gap, or under way."""
    return [
        *survey.landed.get((*at, generation), ()),
        *_excluded(survey.gaps, at, generation),
        *((r.from_offset, r.to_offset) for r in busy if (r.topic, r.partition, r.generation) == (*at, generation)),
    ]


def _excluded(gaps: Iterable[Gap], at: Partition, generation: int) -> Iterator[Interval]:
    """Yield the ranges of a partition that are recorded as gaps and are not to be tried again."""
    for gap in gaps:
        here = (gap.topic, gap.partition, gap.generation) == (*at, generation)
        if here and gap.kind in NAMES_RANGE and gap.state != "retried":
            yield gap.from_offset, gap.to_offset


def unlanded(
    survey: Survey, state: State, upto: Mapping[Partition, int], under_way: Iterable[Range] = ()
) -> list[Range]:
    """Return, in order, every range below ``upto`` that is neither landed, nor under way, nor a recorded gap."""
    busy, gaps = list(under_way), [*survey.gaps, *state.gaps]
    known = replace(survey, gaps=gaps)
    left = []
    for at, seen in state.current.items():
        covered = _covered(known, at, seen.generation, busy)
        left += [
            Range(*at, first, last, seen.generation)
            for first, last in missing((seen.start, upto.get(at, seen.start)), covered)
        ]
    return left


def front(survey: Survey, state: State) -> dict[Partition, int]:
    """Return the end of what was landed of each partition, its beginning where nothing was."""
    ends = {}
    for at, seen in state.current.items():
        landed = survey.landed.get((*at, seen.generation), ())
        ends[at] = max(seen.start, landed[-1][1] if landed else seen.start)
    return ends


def cut(ranges: Iterable[Range], limit: int) -> list[list[Range]]:
    """Return ``ranges`` in groups of at most ``limit`` offsets, each range cut where a group is full."""
    groups: list[list[Range]] = []
    room = 0
    for whole in ranges:
        at = whole.from_offset
        while at < whole.to_offset:
            if room == 0:
                groups.append([])
                room = limit
            end = min(whole.to_offset, at + room)
            groups[-1].append(Range(whole.topic, whole.partition, at, end, whole.generation))
            room -= end - at
            at = end
    return groups


def contiguous(survey: Survey, state: State) -> list[Range]:
    """Return the ranges that are missing below the last landed offset of each partition; none is how it should be."""
    return unlanded(survey, state, front(survey, state))
