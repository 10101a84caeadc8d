"""The switches of the model: each names one rule of the design, on by default."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """The corrected design; a switch turned off is a mutant that the search must refute."""

    fresh_epochs: bool = True
    """A new epoch is above every epoch ever minted (Redis' clock), not only above the log's."""
    ordinals: bool = True
    """A log shorter than its last entry's ordinal has a hole; without: only the head is looked at."""
    atomic_claim: bool = True
    """A takeover writes its final event in the step that takes the epoch."""
    incomplete_is_error: bool = True
    """A takeover of a closed log with a hole ends it in an error, never in a `done` not whole."""
    restore_checks_owner: bool = True
    restore_checks_epoch: bool = True
    """A restore gives way to an epoch above the producer's own."""
    restore_own_lease: bool = True
    """The producer asks for a restore only while its lease runs by its own clock."""
    restore_deadline: bool = True
    """The script refuses a restore that arrives after the producer's lease, by Redis' clock."""
    restore_never_shortens: bool = True
    """A restore leaves alone a whole log of the same epoch that reaches as far."""
    tombstone: bool = True
    wipe_always_buries: bool = True
    """A delete leaves its tombstone also when Redis has lost the session."""
    wipe_asked_again: bool = True
    abort_asked_again: bool = True
    abort_survives_gone: bool = True
    """An aborter told GONE goes on asking: the producer may restore."""
    abort_until_confirmed: bool = True
    """An aborter stops when the producer has confirmed, not when its lease lapses."""
    settle_by_content: bool = True
    """"Equal or smaller" is settled by reading the entry back; without: it counts as done."""
    absent_asks_renew: bool = True
    """An entry not read back sends the producer to `renew`; without: it counts as FENCED."""
    check_on_connect: bool = True
    """After a lost reply the producer looks at the log before it appends again."""
    inherit_mints: bool = True
    """An heir goes on under a new epoch, with a marker; without: under the one there was."""
    inherit_behind: bool = True
    """An heir is refused if the log has grown since it read what to go on from."""
    heir_extends: bool = True
    """An heir appends by a script, behind the very entry that it knows; without: by a plain XADD."""
    create_knows_owner: bool = True
    """A `create` asked again by the same owner is answered OK; without: EXISTS."""


FIRST_DRAFT = Rules(
    incomplete_is_error=False,
    restore_deadline=False,
    restore_never_shortens=False,
    wipe_always_buries=False,
    wipe_asked_again=False,
    abort_survives_gone=False,
    abort_until_confirmed=False,
    absent_asks_renew=False,
    create_knows_owner=False,
)
"""The design as it stood before the search."""
