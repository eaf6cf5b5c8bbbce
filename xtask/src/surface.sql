-- The reference of the SQL surface, as lines of Markdown, from the catalog and its comments. `cargo xtask docs` writes
-- it to docs/sql.md; a test compares the two. Partitions, trigger functions and sequences are left out.
WITH objects AS (
  SELECT 1 AS part, p.proname::text AS name, pg_get_function_identity_arguments(p.oid) AS again,
    format(E'### %s\n\n```text\n%s(%s)%s\n```\n\n%s%s\n', p.proname, p.proname,
      pg_get_function_arguments(p.oid),
      CASE WHEN p.prokind = 'p' THEN '' ELSE ' -> ' || pg_get_function_result(p.oid) END,
      coalesce(obj_description(p.oid, 'pg_proc'), 'No comment.'),
      CASE WHEN p.prokind = 'p' THEN E'\n\nProcedure: CALL it.'
        ELSE format(E'\n\n%s, %s%s.',
          CASE p.prokind WHEN 'a' THEN 'Aggregate' ELSE initcap(CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END) END,
          CASE p.proparallel WHEN 's' THEN 'parallel safe' WHEN 'r' THEN 'parallel restricted' ELSE 'parallel unsafe' END,
          CASE WHEN p.proisstrict THEN ', NULL for a NULL argument' ELSE '' END) END) AS text
  FROM pg_proc p
  WHERE p.pronamespace = 'market'::regnamespace AND p.prorettype <> 'trigger'::regtype
    AND p.prorettype <> 'internal'::regtype AND NOT ('internal'::regtype = ANY (p.proargtypes::oid[]))
  UNION ALL
  SELECT CASE c.relkind WHEN 'v' THEN 2 ELSE 3 END, c.relname::text, '',
    format(E'### %s\n\n%s\n\n| column | type | what |\n|---|---|---|\n%s', c.relname,
      coalesce(obj_description(c.oid, 'pg_class'), 'No comment.'),
      (SELECT string_agg(format(E'| `%s` | %s | %s |\n', a.attname, format_type(a.atttypid, a.atttypmod),
         coalesce(replace(col_description(c.oid, a.attnum), '|', '\|'), '')), '' ORDER BY a.attnum)
       FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
  FROM pg_class c
  WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    AND EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
), parts AS (
  SELECT * FROM (VALUES (1, 'Functions'), (2, 'Views'), (3, 'Tables')) AS p(part, title)
)
SELECT format(E'## %s\n\n%s', title, (SELECT string_agg(text, E'\n' ORDER BY name COLLATE "C", again COLLATE "C") FROM objects o WHERE o.part = p.part))
FROM parts p ORDER BY part
