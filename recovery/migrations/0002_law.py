"""What was copied, checked and signed is only ever added: the database refuses to alter or delete it.

Irreversible on purpose: proof that could be rewritten would prove nothing.
"""

from __future__ import annotations

from django.conf import settings
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

APPEND_ONLY = ["pointpart", "verification", "drillcheck", "signoff"]


def lay_down_the_law(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    tables = [f"recovery_{name}" for name in APPEND_ONLY]
    for table in tables:
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
    role = schema_editor.quote_name(settings.APPLICATION_ROLE)
    for table in tables:
        schema_editor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {role}")


class Migration(migrations.Migration):
    dependencies = [("changecontrol", "0002_law"), ("recovery", "0001_initial")]
    operations = [migrations.RunPython(lay_down_the_law, elidable=False)]
