-- Everything that makes up the extension in a database, one line an object: for comparing an upgraded one with a fresh one.
-- Partitions that appear with data are left out, and the order of columns is in it.
SELECT line FROM (
  SELECT 'member ' || pg_describe_object(classid, objid, objsubid) AS line FROM pg_depend
  WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'bellwether') AND deptype = 'e'
  UNION ALL
  SELECT format('dumped %s where %s', c.oid::regclass, condition) FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS x(oid, condition)
  JOIN pg_class AS c ON c.oid = x.oid WHERE e.extname = 'bellwether'
  UNION ALL
  SELECT format('function %s: %s; acl %s; %s', p.oid::regprocedure,
    CASE WHEN p.prokind = 'a' THEN (SELECT concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggtranstype::regtype,
      a.aggtransspace, a.agginitval, p.provolatile, p.proparallel) FROM pg_aggregate AS a WHERE a.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END,
    (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(p.proacl) AS a), obj_description(p.oid, 'pg_proc'))
  FROM pg_proc AS p WHERE p.pronamespace = 'market'::regnamespace
  UNION ALL
  SELECT format('relation %s %s: row security %s %s; replica identity %s; options %s; acl %s; partition key %s; %s %s', c.relkind, c.oid::regclass, c.relrowsecurity,
    c.relforcerowsecurity, c.relreplident, c.reloptions, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(c.relacl) AS a),
    pg_get_partkeydef(c.oid), CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, obj_description(c.oid, 'pg_class'))
  FROM pg_class AS c WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'f', 'S', 'c') AND c.relname <> 'sealed_parts'
    AND NOT (c.relispartition AND c.relname !~ '^live_trades')
  UNION ALL
  SELECT format('column %s %s %s: %s%s default %s identity %s storage %s; %s', c.oid::regclass,
    row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' END,
    pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attstorage, col_description(c.oid, a.attnum))
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'f', 'c') AND c.relname <> 'sealed_parts'
    AND NOT (c.relispartition AND c.relname !~ '^live_trades')
  UNION ALL
  SELECT format('constraint %s %s: %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)) FROM pg_constraint AS k
  JOIN pg_class AS c ON c.oid = k.conrelid WHERE k.connamespace = 'market'::regnamespace AND NOT (c.relispartition AND c.relname !~ '^live_trades')
  UNION ALL
  SELECT format('index %s: %s', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
  WHERE c.relnamespace = 'market'::regnamespace AND NOT (c.relispartition AND c.relname !~ '^live_trades')
  UNION ALL
  SELECT format('trigger %s enabled %s', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
  WHERE c.relnamespace = 'market'::regnamespace AND NOT t.tgisinternal
  UNION ALL
  SELECT format('policy %s %s', p.polrelid::regclass, to_jsonb(p) - 'oid' - 'polrelid' - 'polqual' - 'polwithcheck' || jsonb_build_object('using', pg_get_expr(p.polqual, p.polrelid)))
  FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid WHERE c.relnamespace = 'market'::regnamespace
  UNION ALL
  SELECT format('type %s %s %s: %s', t.typtype, t.oid::regtype, (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid),
    obj_description(t.oid, 'pg_type')) FROM pg_type AS t WHERE t.typnamespace = 'market'::regnamespace AND t.typrelid = 0 AND t.typcategory <> 'A'
  UNION ALL
  SELECT format('wrapper %s %s; %s', w.fdwname, w.fdwhandler::regproc, obj_description(w.oid)) FROM pg_foreign_data_wrapper AS w WHERE w.fdwname LIKE 'market%'
  UNION ALL
  SELECT format('schema %s; %s', n.nspacl, obj_description(n.oid)) FROM pg_namespace AS n WHERE n.nspname = 'market'
) AS all_of_it ORDER BY line COLLATE "C";
