"""Samples are only ever added: the database refuses to alter or delete one.

Irreversible on purpose: samples that could be rewritten would prove nothing.
"""

from __future__ import annotations

from django.conf import settings
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

TABLE = "deployments_measurementsample"


def lay_down_the_law(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    schema_editor.execute(
        f"CREATE TRIGGER refuse_rewriting BEFORE UPDATE OR DELETE ON {TABLE} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_rewriting()"
    )
    schema_editor.execute(
        f"CREATE TRIGGER refuse_truncating BEFORE TRUNCATE ON {TABLE} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()"
    )
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT current_user = %s", [settings.APPLICATION_ROLE])
        if cursor.fetchone()[0]:
            return  # one role for everything: a system check complains, the triggers still hold
    role = schema_editor.quote_name(settings.APPLICATION_ROLE)
    schema_editor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {TABLE} FROM {role}")


class Migration(migrations.Migration):
    dependencies = [("changecontrol", "0002_law"), ("deployments", "0001_initial")]
    operations = [migrations.RunPython(lay_down_the_law, elidable=False)]
