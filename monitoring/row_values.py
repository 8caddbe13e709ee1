"""Are values of watched rows what the trail last told of them? Column by column, for chosen rows.

Of a row the trail tells the values that its insert (captured, or told by the service) and its updates named.
Compared is what is newest of each column, within the events since the row came. Erased values and secrets are
not there to be compared, nor what was ignored; columns that no event names were never told.
"""

from __future__ import annotations

from typing import Final

from mestore.lib import sql
from monitoring.row_counts import Declared

WRITTEN: Final = 1_000
"""How many rows that were written since are compared: those without an event first, then at random."""
SAMPLED: Final = 300
"""How many others, at random; a smaller table is compared as a whole."""
EVENTS: Final = 50

# The event by which the service told of a new row comes last, whatever its clock: every update is newer.
# What a row was written by is told by the lower half of its transaction's number.
_DIFFERING = """
WITH written AS MATERIALIZED (
    SELECT k.key, r.row FROM (
        SELECT to_jsonb(t) AS row FROM {table} t
        WHERE %(snapshot)s::pg_snapshot IS NOT NULL
          AND (t.xmin::text::bigint - pg_snapshot_xmin(%(snapshot)s::pg_snapshot)::text::bigint %% 4294967296
               + 4294967296) %% 4294967296
            < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
              - pg_snapshot_xmin(%(snapshot)s::pg_snapshot)::text::bigint
        OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (SELECT CASE WHEN cardinality(%(key)s::text[]) = 1 THEN r.row ->> (%(key)s::text[])[1]
        ELSE (SELECT string_agg(r.row ->> n.name, '/' ORDER BY n.place)
              FROM unnest(%(key)s::text[]) WITH ORDINALITY AS n (name, place)) END AS key OFFSET 0) AS k
    ORDER BY EXISTS (SELECT FROM audit_row_told o WHERE o.watched = %(name)s AND o.key = k.key), random()
    LIMIT %(written)s
), sampled AS MATERIALIZED (
    SELECT k.key, r.row FROM (
        SELECT to_jsonb(t) AS row FROM {table} t TABLESAMPLE BERNOULLI (%(share)s) LIMIT %(sampled)s
    ) AS r
    CROSS JOIN LATERAL (SELECT CASE WHEN cardinality(%(key)s::text[]) = 1 THEN r.row ->> (%(key)s::text[])[1]
        ELSE (SELECT string_agg(r.row ->> n.name, '/' ORDER BY n.place)
              FROM unnest(%(key)s::text[]) WITH ORDINALITY AS n (name, place)) END AS key OFFSET 0) AS k
), chosen AS (
    SELECT key, row FROM written UNION SELECT key, row FROM sampled
)
SELECT c.key, array_agg(d.name ORDER BY d.name) FILTER (WHERE d.matches IS FALSE)
FROM chosen c LEFT JOIN LATERAL (
    WITH captured AS MATERIALIZED (
        SELECT e.id, e.occurred_at, e.type, e.canon FROM audit_event e
        WHERE e.target_type = %(name)s AND e.target_id = c.key
          AND e.type IN ('capture.insert', 'capture.update', 'capture.delete')
        ORDER BY e.occurred_at DESC, e.id DESC LIMIT %(events)s
    )
    SELECT DISTINCT ON (m.name) m.name, m.matches FROM (
        SELECT n.id, n.occurred_at, n.type, convert_from(n.canon, 'UTF8')::jsonb -> 'data' AS data,
               false AS is_told,
               count(*) FILTER (WHERE n.type <> 'capture.update') OVER (
                   ORDER BY n.occurred_at DESC, n.id DESC
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ends
        FROM captured n
        UNION ALL
        SELECT t.id, t.occurred_at, t.type, jsonb_build_object('changes', coalesce(
                   (SELECT jsonb_object_agg(r.key, jsonb_build_object('after', r.value))
                    FROM jsonb_each(convert_from(t.canon, 'UTF8')::jsonb #> ARRAY['data', 'row']) AS r),
                   jsonb_build_object())), true, 0
        FROM audit_event t
        WHERE t.type = %(told)s AND t.target_type = %(target)s AND t.target_id = c.key
          AND t.writer_mac IS NOT NULL AND (
            SELECT count(*) < %(events)s AND count(*) FILTER (WHERE type <> 'capture.update') = 0
            FROM captured)
    ) AS e
    CROSS JOIN LATERAL (
        SELECT p.key AS name, CASE
            WHEN p.value ? 'after_sha256'
            THEN p.value ->> 'after_sha256'
                = encode(sha256(convert_to((c.row -> p.key)::text, 'UTF8')), 'hex')
            ELSE coalesce(p.value -> 'after', 'null') = c.row -> p.key END AS matches
        FROM jsonb_each(e.data -> 'changes') AS p
        UNION ALL
        SELECT s.name, NULL FROM jsonb_array_elements_text(e.data -> 'secret') AS s (name)
        UNION ALL
        SELECT left(h.name, -6), v.value::jsonb = c.row -> left(h.name, -6)
        FROM jsonb_object_keys(e.data -> 'personal') AS h (name)
        LEFT JOIN audit_personal v ON v.event_id = e.id AND v.name = h.name WHERE h.name LIKE '%%.after'
        UNION ALL
        SELECT left(h.name, -7), c.row -> left(h.name, -7) = 'null'
        FROM jsonb_object_keys(e.data -> 'personal') AS h (name)
        WHERE h.name LIKE '%%.before' AND NOT e.data -> 'personal' ? (left(h.name, -7) || '.after')
    ) AS m
    WHERE e.ends = 0 AND e.type <> 'capture.delete' AND m.name = ANY(%(columns)s)
    ORDER BY m.name, e.is_told, e.occurred_at DESC, e.id DESC
) AS d ON true
GROUP BY c.key
"""


def differing(table: Declared, rows: int, *, snapshot: str | None) -> tuple[int, dict[str, list[str]]]:
    """Return how many rows were compared, and by key the columns that are not what the trail last told.

    `rows`: how many the table has; `snapshot`: since when rows count as written, None where nothing is known.
    """
    told, target = table.told or (None, None)
    values = {
        "told": told, "target": target, "name": table.table,
        "key": list(table.key), "columns": table.comparable, "snapshot": snapshot,
        "written": WRITTEN, "sampled": SAMPLED, "events": EVENTS,
        "share": min(100.0, 120.0 * SAMPLED / max(rows, 1)),
    }  # fmt: skip
    found = sql.fetch_all(sql.compose(_DIFFERING, table=("public", table.table)), values)
    return len(found), {str(key): names for key, names in found if names}
