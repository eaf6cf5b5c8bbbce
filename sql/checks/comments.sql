-- Every public object explains itself, down to types, aggregates, foreign objects and the columns of views.
DO $$
DECLARE
  missing text;
BEGIN
  SELECT pg_catalog.string_agg(object, E'\n') INTO missing FROM (
    SELECT 'schema market' AS object WHERE obj_description('market'::regnamespace, 'pg_namespace') IS NULL
    UNION ALL
    SELECT format('%s %s', CASE p.prokind WHEN 'a' THEN 'aggregate' ELSE 'function' END, p.oid::regprocedure)
    FROM pg_catalog.pg_proc AS p
    WHERE p.pronamespace = 'market'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
    UNION ALL
    SELECT format('relation %s', c.oid::regclass)
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND obj_description(c.oid, 'pg_class') IS NULL
    UNION ALL
    -- composite types have a relation of their own; table types are described by their table
    SELECT format('type %s', t.oid::regtype)
    FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid
    WHERE t.typnamespace = 'market'::regnamespace AND t.typcategory <> 'A' AND (t.typtype <> 'c' OR c.relkind = 'c')
      AND obj_description(t.oid, 'pg_type') IS NULL
    UNION ALL
    SELECT format('foreign data wrapper %s', w.fdwname)
    FROM pg_catalog.pg_foreign_data_wrapper AS w WHERE w.fdwname = 'market_trades' AND obj_description(w.oid, 'pg_foreign_data_wrapper') IS NULL
    UNION ALL
    SELECT format('server %s', s.srvname)
    FROM pg_catalog.pg_foreign_server AS s WHERE s.srvname = 'market_trades' AND obj_description(s.oid, 'pg_foreign_server') IS NULL
  ) AS found;
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION E'without COMMENT:\n%', missing;
  END IF;
END
$$;
