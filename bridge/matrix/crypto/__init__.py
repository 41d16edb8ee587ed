"""What of the account's keys outlives this device: identity in secret storage, room keys in a backup.

recovery   the recovery key as people read it; pure
vault      secret storage (SSSS): its key, its secrets, sealed and opened; pure
storage    the account data in which they lie on the homeserver
room_keys  matrix-nio's room keys as a backup holds them, and back; pure but for its store
ledger     which room keys are in which backup, on this disk
backup     the backup on the homeserver: made, trusted, filled, read back
keeper     all of it at each start and on each round of the sync loop
audit      the same seen from outside, read-only, for `hearth matrix verify`
"""
