-- Dumps hold everything a user wrote, children of partitioned tables carry no grants, readers see through row-level security.
DO $$
DECLARE
  wrong text;
BEGIN
  -- every table with user data (children included) and every sequence is marked for pg_dump
  SELECT string_agg(c.oid::regclass::text, ', ') INTO wrong
  FROM pg_catalog.pg_extension AS e
  JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  JOIN pg_catalog.pg_class AS c ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
  WHERE e.extname = 'bellwether' AND c.relkind IN ('r', 'S') AND NOT c.oid = ANY (e.extconfig);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'not marked by pg_extension_config_dump: %', wrong;
  END IF;

  -- a granted child would bypass the row-level security of its parent
  SELECT string_agg(c.oid::regclass::text, ', ') INTO wrong
  FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS acl
  WHERE c.relnamespace = 'market'::regnamespace AND c.relispartition AND acl.grantee <> c.relowner;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'partitions with grants of their own: %', wrong;
  END IF;

  SELECT string_agg(c.oid::regclass::text, ', ') INTO wrong
  FROM pg_catalog.pg_class AS c
  WHERE c.relnamespace = 'market'::regnamespace AND c.relkind = 'v'
    -- shows runs of maintenance to who may not read them all, and their errors only to who sees every instrument
    AND c.relname <> 'job_status'
    AND NOT coalesce('security_invoker=true' = ANY (c.reloptions) OR 'security_invoker=on' = ANY (c.reloptions), false);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'views that run as their owner: %', wrong;
  END IF;

  -- PUBLIC may use nothing of the schema; the roles may use what they need
  IF has_schema_privilege('public', 'market', 'USAGE') THEN
    RAISE EXCEPTION 'PUBLIC may use schema market';
  END IF;
  IF has_table_privilege('market_reader', 'market.live_trades', 'INSERT') OR has_table_privilege('market_writer', 'market.instruments', 'DELETE') THEN
    RAISE EXCEPTION 'a role may do more than it needs';
  END IF;
END
$$;
