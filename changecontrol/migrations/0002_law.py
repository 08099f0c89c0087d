"""The law the database keeps by itself: the audit chain, and tables whose rows are only ever added.

Irreversible on purpose: taking the triggers away would leave a trail that proves nothing.
"""

from __future__ import annotations

from django.conf import settings
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

APPEND_ONLY = ["auditevent", "vote", "revision", "plan", "contributor", "gateresult", "artefact", "runlog"]

FUNCTIONS = """
CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- One statement for the writer: the head is locked, the sequence follows, and the hash covers what came before.
-- hash = sha256(previous hash, 32 bytes || sequence, 8 bytes big-endian || body as UTF-8). The first previous hash is zeros.
-- It runs with its owner's rights: the application has none on the heads, so it cannot fork or cut a chain.
CREATE FUNCTION chain_audit_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head changecontrol_audithead%ROWTYPE;
BEGIN
    INSERT INTO changecontrol_audithead (subject, sequence, hash)
    VALUES (NEW.subject, 0, decode(repeat('00', 32), 'hex'))
    ON CONFLICT (subject) DO NOTHING;
    SELECT * INTO head FROM changecontrol_audithead WHERE subject = NEW.subject FOR UPDATE;
    NEW.sequence := head.sequence + 1;
    NEW.previous_hash := head.hash;
    NEW.hash := sha256(head.hash || int8send(NEW.sequence) || convert_to(NEW.body, 'UTF8'));
    UPDATE changecontrol_audithead SET sequence = NEW.sequence, hash = NEW.hash WHERE subject = NEW.subject;
    RETURN NEW;
END $$;

CREATE TRIGGER chain BEFORE INSERT ON changecontrol_auditevent FOR EACH ROW EXECUTE FUNCTION chain_audit_event();
"""


def lay_down_the_law(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    quote = schema_editor.quote_name
    role = quote(settings.APPLICATION_ROLE)
    schema_editor.execute(FUNCTIONS, params=None)
    for name in APPEND_ONLY:
        table = f"changecontrol_{name}"
        schema_editor.execute(
            f"CREATE TRIGGER refuse_rewriting BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_rewriting()"
        )
        schema_editor.execute(
            f"CREATE TRIGGER refuse_truncating BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()"
        )
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT current_user = %s", [settings.APPLICATION_ROLE])
        if cursor.fetchone()[0]:
            return  # one role for everything: a system check complains, the triggers still hold
    schema_editor.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    schema_editor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    schema_editor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}")
    schema_editor.execute(
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}"
    )
    schema_editor.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role}")
    for name in APPEND_ONLY:
        schema_editor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON changecontrol_{name} FROM {role}")
    schema_editor.execute(f"REVOKE ALL ON changecontrol_audithead FROM {role}")
    schema_editor.execute(f"GRANT SELECT ON changecontrol_audithead TO {role}")


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0001_initial"),
        ("axes", "__latest__"),
        ("mfa", "__latest__"),
        ("account", "__latest__"),
        ("sessions", "__latest__"),
    ]
    operations = [migrations.RunPython(lay_down_the_law, elidable=False)]
