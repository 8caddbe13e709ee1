"""SQL of the trigger that moves `auth_epoch`, frozen with the migration that creates it.

Whatever writes the row (a form, `.update()`, psql) ends the account's sessions when it changes who may sign
in or what they may do. The one exception is a new hash of the same password: an UPDATE that also moves
`password_rehashed_at`, and nothing else of these, is the renewal at sign-in. The epoch itself may be raised
by hand (to end all sessions) and never goes back, so a stale copy of the row cannot revive a dead session.
"""

from __future__ import annotations

CREATE = """
CREATE FUNCTION accounts_move_auth_epoch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_rehash boolean := NEW.password_rehashed_at IS DISTINCT FROM OLD.password_rehashed_at
                         AND NEW.password_changed_at IS NOT DISTINCT FROM OLD.password_changed_at;
BEGIN
    IF (NEW.password IS DISTINCT FROM OLD.password AND NOT is_rehash)
       OR NEW.password_changed_at IS DISTINCT FROM OLD.password_changed_at
       OR NEW.user_type IS DISTINCT FROM OLD.user_type
       OR NEW.is_active IS DISTINCT FROM OLD.is_active
       OR NEW.deleted_at IS DISTINCT FROM OLD.deleted_at
       OR NEW.security_clearance_level IS DISTINCT FROM OLD.security_clearance_level
    THEN
        NEW.auth_epoch := greatest(NEW.auth_epoch, OLD.auth_epoch + 1);
    ELSE
        NEW.auth_epoch := greatest(NEW.auth_epoch, OLD.auth_epoch);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER accounts_user_auth_epoch BEFORE UPDATE ON accounts_user
    FOR EACH ROW EXECUTE FUNCTION accounts_move_auth_epoch();

-- Also when a replication role writes: a restored or replicated row must not keep sessions alive.
ALTER TABLE accounts_user ENABLE ALWAYS TRIGGER accounts_user_auth_epoch;
"""

DROP = """
DROP TRIGGER accounts_user_auth_epoch ON accounts_user;
DROP FUNCTION accounts_move_auth_epoch();
"""
