"""What each verdict says, and what would change it: tables in English, looked up when they are said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bots.language import N_
from policies.classes import Class
from policies.grant import Status
from policies.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

ABOUT: Final[Mapping[str, str]] = {
    Class.GENERAL: N_("general knowledge"),
    Class.LOCAL_KNOWLEDGE: N_("local knowledge"),
    Class.SHARED_NOTES: N_("shared notes"),
    Class.HEALTH: N_("health"),
    Class.CHILDREN: N_("children"),
    Class.LOCATION: N_("where people are"),
}
"""What a class of questions is called."""
STANDS: Final[Mapping[str, str]] = {
    Status.ACTIVE: N_("in force"),
    Status.TRIAL: N_("on trial"),
    Status.SUSPENDED: N_("stopped"),
    Status.REVOKED: N_("taken back"),
}
"""How a permission stands."""
VERDICTS: Final[Mapping[Code, str]] = {
    Code.ALLOWED: N_("This is allowed here."),
    Code.BOT: N_("I do not answer other bots, so that two of us never talk to each other without end."),
    Code.LOOP: N_(
        "I have fallen silent: more than {limit} messages in {seconds} seconds came from one account, "
        "and that looks like a loop."
    ),
    Code.NOT_AN_ASKER: N_("{asker} is not among those whom I may answer here."),
    Code.PERSON_QUOTA: N_("You have had your {limit} answers of the last 24 hours."),
    Code.PLACE_QUOTA: N_("This room has had its {limit} answers of the last 24 hours."),
    Code.VOICE_OFF: N_("I do not listen to voice messages and recordings here."),
    Code.UNASKED: N_("Nobody asked me to listen to it, and here I listen only when I am asked."),
    Code.UNREADABLE: N_("I cannot read the policy of this room, so I answer nothing here: {problem}."),
    Code.NOT_YOURS: N_(
        "That answer was asked for by somebody else, so only they or a moderator can stop it."
    ),
    Code.NOT_A_MODERATOR: N_("Only a moderator of this room can make me forget all of it."),
    Code.EXPIRED: N_(
        "The question was {minutes} minutes old when it reached me, and I answer nothing older than "
        "{limit} minutes."
    ),
    Code.WITHDRAWN: N_("The question was taken back."),
    Code.STOPPED: N_("The answer was stopped by `!stop`."),
    Code.FAILED: N_("I tried until I gave up, and none of the tries worked."),
    Code.NOT_ENOUGH_POWER: N_("This takes the power level {needed} in this room, and yours is {power}."),
    Code.NOT_VOUCHED: N_("Nothing that I know of vouches for the device that this came from."),
    Code.NOT_AN_ADMIN: N_("Only somebody whom the settings name as admin can say that."),
    Code.NOT_HERE: N_("I answer only in rooms of two, so not here."),
    Code.QUIET: N_("It is quiet time here until {until}."),
    Code.NOTES_STAY: N_("The notes {collection} are not read for this."),
    Code.REMOTE_MODEL: N_("My model runs on another machine, and what is said here may not be sent there."),
    Code.NO_PEER: N_("Nobody has allowed {peer} here."),
    Code.UNCLASSIFIED: N_("I do not know what kind of question this is, so it does not leave this room."),
    Code.CLASS_STAYS: N_("This is about {classes}, and that does not leave this room."),
    Code.SUMMARY_STAYS: N_("No summary of what is said here may leave this room."),
    Code.VOICE_STAYS: N_("What was spoken here does not leave this room."),
    Code.TOO_MANY_HOPS: N_("The question may not be passed on so often."),
    Code.PEER_QUOTA: N_(
        "The {limit} questions to or from other communities of the last 24 hours are used up."
    ),
    Code.NO_GRANT: N_("There is no permission between this room and {peer}."),
    Code.NOT_YET: N_("The permission does not hold yet."),
    Code.ENDED: N_("The permission has ended."),
    Code.SUSPENDED: N_("The permission is {status}."),
    Code.OTHER_DIRECTION: N_("The permission is for the other direction only."),
    Code.KEY_CHANGED: N_("The key of the other side is not the one that was agreed on."),
    Code.UNSAFE_ROOM: N_("Any member could write the rules of this room, so nothing leaves it."),
    Code.UNKNOWN: N_("No rule allows this, and what no rule allows is refused."),
}
"""What each verdict says, with its parameters."""

RULES: Final[Mapping[str, str]] = {
    "hearth.edited": N_("The question was edited, and the edited one counts."),
    "hearth.left": N_("I am no longer in the room where it was asked."),
    "hearth.welcome": N_("I say hello once in every room that I join."),
    "hearth.policy": N_("I say in the room what was changed in its policy."),
    "hearth.verification": N_("Where somebody compares keys with me, I say what both sides should see."),
    "peer.missing": N_("The community of {peer} has not allowed us to ask it."),
    "link.room": N_("There is no link with {peer}, so I cannot ask it."),
    "link.guard": N_("Too much went to and fro with that community in the last minute."),
    "link.exp": N_("Its time was over before it could be done."),
    "grant.document": N_("The permission cannot be read: {problem}."),
    "peer.document": N_("The permission of the other community cannot be read: {problem}."),
    "hearth.deaths": N_("I was shut down again and again while I worked on it, so I put it aside."),
}
"""Where a rule has better words than its code."""

REMEDIES: Final[Mapping[str, str]] = {
    "ask_admin": N_("Whoever runs me can add the address or its server to `askers` in the settings."),
    "turn_on_voice": N_("Whoever runs me can allow it with `voice` under `[policy]` in the settings."),
    "room_policy": N_("That is this room's own rule: `!policy` shows it, and its moderators can change it."),
    "propose": N_("Anybody here can put it to the vote with `!propose`."),
    "ask_operator_policy": N_("Whoever runs me can allow it, under `[policy]` in the settings."),
    "allow_remote": N_("The room's moderators can allow it: `!policy set remote_model yes`."),
    "ask_them": N_("That is for the other community to decide."),
    "name_class": N_("Say what it is about: general, local-knowledge or shared-notes."),
    "type_it": N_("Please type it."),
    "write_directly": N_("Please write to me in a room of our own."),
    "be_signed": N_(
        "Write it in an encrypted room, from a device that you have verified with your account's own keys "
        "(in Element: Settings, Encryption). A reaction is never encrypted: use words."
    ),
    "be_verified": N_(
        "Compare keys with me once (in Element: my profile, Verify user); then write in an encrypted room, "
        "from a device that you have verified yourself. A reaction is never encrypted: use words."
    ),
    "name_admins": N_("Whoever runs me can name admins with `admins` under `[matrix]` in the settings."),
    "later": N_("Please ask again then."),
    "policy_setup": N_("A moderator can mend that: `!policy setup` says how."),
    "ask_moderator": N_("Please ask a moderator of this room."),
    "ask_again": N_("If it still matters, please ask again."),
    "tomorrow": N_(
        "Older answers stop counting after 24 hours; whoever runs me can raise the number in the settings."
    ),
    "ask_operator": N_("Whoever runs me can look with `hearth turns stuck` and try it again."),
    "wait": N_("Wait a minute, then write again."),
    "link": N_("A moderator can begin one: `!link @bot:city.example`."),
}
"""What would change a verdict; the keys are those of `Verdict.remedy`."""
