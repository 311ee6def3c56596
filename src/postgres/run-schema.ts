/**
 * The tables of a store of runs and the functions that are its methods: the SQL of `createTable()`.
 *
 * Each method is one function, and so one statement, one transaction and one round trip: a process that is killed in
 * the middle leaves no lock and no half of a change.
 *
 * **Order.** Whoever changes a run locks its row until the commit, so its entries become visible in the order of their
 * positions, together with the tail. Runs do not wait for each other. A function that locks several rows does so in the
 * order of their ids, or two of them could wait for each other.
 *
 * **Readers** lock nothing. A page is read by one STABLE function, which sees all tables at one moment: an append or a
 * deletion in between cannot leave a hole in it.
 *
 * **Writes.** What each append changes is in no index, so that PostgreSQL can update the row in place (HOT).
 */
import { LOCKS, quoter } from './schema.js'

/** The names of everything in the database that belongs to one store, quoted. */
export interface RunNames {
  readonly runs: string
  readonly entries: string
  readonly producers: string
  /** Prefixes the names of the functions. */
  readonly of: (suffix: string) => string
  /** What is LISTENed to; not in a schema. */
  readonly channel: string
}

/** @param table `name` or `schema.name`, checked by the options. */
export function runNamesOf(table: string): RunNames {
  const { name, quoted } = quoter(table)
  return {
    runs: quoted(''),
    entries: quoted('_entries'),
    producers: quoted('_producers'),
    of: suffix => quoted(`_${suffix}`),
    channel: `${name}_bell`,
  }
}

/**
 * The SQL that creates the tables and functions of a store of runs, for your own migrations; `store.createTable()`
 * runs the same. It can be run again at any time, and leaves the runs as they are.
 *
 * @param table the option `table` of {@link postgresRuns}.
 */
export function createRunsTableSql(table: string): string {
  const { runs, entries, producers, of, channel } = runNamesOf(table)
  const { name } = quoter(table)
  return `-- One at a time: processes that start together would create the same table twice.
SELECT pg_advisory_xact_lock(${LOCKS}, 0);

-- All times and durations are in milliseconds, and times count from 1970. "touched_at" may lie a little ahead, so
-- that not every read has to write. "run" tells a run from earlier ones of the same id, and "version" counts its
-- changes. "source" is the run that it was forked from. From "sweep_at" on there may be something to delete.
CREATE TABLE IF NOT EXISTS ${runs} (
  run bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text COLLATE "C" UNIQUE,
  generation text NOT NULL,
  meta text NOT NULL,
  ttl bigint,
  expires_at bigint,
  remember bigint NOT NULL,
  lease_ms bigint,
  lease_ending text,
  max_length bigint,
  source bigint,
  forked_at bigint NOT NULL,
  created_at bigint NOT NULL,
  touched_at bigint NOT NULL,
  leased_at bigint NOT NULL,
  ended_at bigint,
  ending text NOT NULL,
  ended_by text,
  deleted boolean NOT NULL DEFAULT false,
  dropped bigint NOT NULL,
  tail bigint NOT NULL,
  length bigint NOT NULL,
  last_order text COLLATE "C",
  version bigint NOT NULL DEFAULT 0,
  sweep_at bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX IF NOT EXISTS "${name}_sweep_at" ON ${runs} (sweep_at);
CREATE INDEX IF NOT EXISTS "${name}_source" ON ${runs} (source) WHERE source IS NOT NULL;

CREATE TABLE IF NOT EXISTS ${entries} (
  run bigint NOT NULL,
  position bigint NOT NULL,
  length int NOT NULL,
  text text NOT NULL,
  PRIMARY KEY (run, position)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The newest append of each producer.
CREATE TABLE IF NOT EXISTS ${producers} (
  run bigint NOT NULL,
  producer text COLLATE "C" NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  PRIMARY KEY (run, producer)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The time, also after a wait for a lock: now() would be that of the beginning.
CREATE OR REPLACE FUNCTION ${of('clock')}() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- Neither deleted nor expired.
CREATE OR REPLACE FUNCTION ${of('is_here')}(this ${runs}, clock bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT NOT this.deleted AND coalesce(clock < least(this.touched_at + this.ttl, this.expires_at), true)
$$;

-- Whether any fork, or fork of a fork, needs the entries of a run.
CREATE OR REPLACE FUNCTION ${of('has_forks')}(source_run bigint, clock bigint) RETURNS boolean
LANGUAGE sql STABLE AS $$
  WITH RECURSIVE forks AS (
    SELECT f AS fork FROM ${runs} AS f WHERE f.source = source_run
    UNION ALL
    SELECT f FROM forks AS p JOIN ${runs} AS f ON f.source = (p.fork).run
    WHERE NOT ${of('is_here')}(p.fork, clock)
  )
  SELECT EXISTS (SELECT FROM forks WHERE ${of('is_here')}(fork, clock))
$$;

-- Nothing needs it any more, and nobody is to be told of it.
CREATE OR REPLACE FUNCTION ${of('is_forgotten')}(this ${runs}, clock bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF ${of('is_here')}(this, clock) OR ${of('has_forks')}(this.run, clock) THEN RETURN false; END IF;
  RETURN this.deleted OR clock >= least(this.touched_at + this.ttl, this.expires_at) + this.remember;
END $$;

-- An expired run that is kept for its forks counts as deleted.
CREATE OR REPLACE FUNCTION ${of('status')}(this ${runs}, clock bigint) RETURNS text
LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN this.deleted THEN 'deleted'
    WHEN NOT ${of('is_here')}(this, clock)
      THEN CASE WHEN ${of('has_forks')}(this.run, clock) THEN 'deleted' ELSE 'expired' END
    WHEN this.ended_at IS NULL THEN 'open'
    ELSE 'ended'
  END
$$;

CREATE OR REPLACE FUNCTION ${of('lease_left')}(this ${runs}, clock bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN this.ended_at IS NULL AND ${of('is_here')}(this, clock)
    THEN this.leased_at + this.lease_ms - clock END
$$;

-- The position before the oldest entry that can be read.
CREATE OR REPLACE FUNCTION ${of('start_of')}(this ${runs}) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
  start bigint := this.dropped;
BEGIN
  WHILE this.source IS NOT NULL AND this.dropped = this.forked_at LOOP
    SELECT * INTO this FROM ${runs} WHERE run = this.source;
    EXIT WHEN NOT FOUND;
    start := least(start, this.dropped);
  END LOOP;
  RETURN start;
END $$;

CREATE OR REPLACE FUNCTION ${of('record')}(this ${runs}, clock bigint) RETURNS json
LANGUAGE sql STABLE AS $$
  SELECT json_build_array(this.generation, this.meta, ${of('status')}(this, clock), this.ending,
    ${of('start_of')}(this), this.tail, this.created_at, this.ended_at, this.ttl, this.expires_at,
    ${of('lease_left')}(this, clock))
$$;

-- Wakes the watchers of a run when this transaction commits.
CREATE OR REPLACE FUNCTION ${of('ring')}(this ${runs}, version text) RETURNS void
LANGUAGE sql VOLATILE AS $$
  SELECT pg_notify('${channel}', this.run || ' ' || version || ' ' || this.id)
$$;

-- Makes the id free. The entries are deleted by the next sweeps: there may be very many.
CREATE OR REPLACE FUNCTION ${of('forget')}(this ${runs}) RETURNS void LANGUAGE sql VOLATILE AS $$
  UPDATE ${runs} SET id = NULL, deleted = true, sweep_at = ${of('clock')}() WHERE run = this.run
$$;

-- The run, whose row is locked from now on; NULL if there is none. Ends it if its lease is over.
CREATE OR REPLACE FUNCTION ${of('find')}(run_id text) RETURNS ${runs} LANGUAGE plpgsql AS $$
DECLARE
  this ${runs};
  clock bigint;
BEGIN
  SELECT * INTO this FROM ${runs} WHERE id = run_id FOR UPDATE;
  IF NOT FOUND THEN RETURN NULL; END IF;
  clock := ${of('clock')}();
  IF ${of('is_forgotten')}(this, clock) THEN
    PERFORM ${of('forget')}(this);
    RETURN NULL;
  END IF;
  IF ${of('lease_left')}(this, clock) <= 0 THEN
    UPDATE ${runs} SET ending = lease_ending, ended_at = clock, version = version + 1
    WHERE run = this.run RETURNING * INTO this;
    PERFORM ${of('ring')}(this, this.version::text);
  END IF;
  RETURN this;
END $$;

-- Adds entries, and drops the oldest ones beyond the limit, but never the newest. The caller stores the row.
CREATE OR REPLACE FUNCTION ${of('add')}(INOUT this ${runs}, texts text[], lengths int[])
LANGUAGE plpgsql AS $$
DECLARE
  before bigint := this.dropped;
  oldest record;
BEGIN
  INSERT INTO ${entries} (run, position, length, text)
  SELECT this.run, this.tail + e.number, e.length, e.text
  FROM unnest(texts, lengths) WITH ORDINALITY AS e(text, length, number);
  this.tail := this.tail + coalesce(cardinality(texts), 0);
  this.length := this.length + (SELECT coalesce(sum(length), 0) FROM unnest(lengths) AS length);
  IF this.length <= this.max_length IS NOT FALSE THEN RETURN; END IF;
  FOR oldest IN
    SELECT position, length FROM ${entries}
    WHERE run = this.run AND position > before AND position < this.tail ORDER BY position
  LOOP
    EXIT WHEN this.length <= this.max_length;
    this.length := this.length - oldest.length;
    this.dropped := oldest.position;
  END LOOP;
  DELETE FROM ${entries} WHERE run = this.run AND position > before AND position <= this.dropped;
END $$;

CREATE OR REPLACE FUNCTION ${of('create')}(run_id text, creation json, texts text[], lengths int[])
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  given record;
  this ${runs};
  source ${runs};
  clock bigint;
BEGIN
  SELECT * INTO given FROM json_to_record(creation) AS c(generation text, meta text, ttl bigint,
    expires_at bigint, remember bigint, lease_ms bigint, lease_ending text, max_length bigint, ending text,
    source text, forked_at bigint);
  LOOP
    IF given.source IS NOT NULL THEN
      PERFORM FROM ${runs} WHERE id IN (run_id, given.source) ORDER BY id FOR UPDATE;
    END IF;
    this := ${of('find')}(run_id);
    clock := ${of('clock')}();
    IF this.run IS NOT NULL THEN
      RETURN json_build_array('exists', ${of('record')}(this, clock));
    END IF;
    IF given.source IS NOT NULL THEN
      source := ${of('find')}(given.source);
      IF source.run IS NULL OR ${of('status')}(source, clock) = 'expired' THEN
        RETURN json_build_array('no source');
      ELSIF NOT ${of('is_here')}(source, clock) THEN
        RETURN json_build_array('source deleted');
      ELSIF given.forked_at > source.tail OR given.forked_at < ${of('start_of')}(source) THEN
        RETURN json_build_array('no position');
      END IF;
    END IF;
    INSERT INTO ${runs} (id, generation, meta, ttl, expires_at, remember, lease_ms, lease_ending, max_length,
      source, forked_at, created_at, touched_at, leased_at, ended_at, ending, dropped, tail, length, sweep_at)
    VALUES (run_id, coalesce(source.generation, given.generation), given.meta, given.ttl, given.expires_at,
      coalesce(given.remember, 0), given.lease_ms, given.lease_ending, given.max_length, source.run,
      coalesce(given.forked_at, 0), clock, clock, clock, CASE WHEN given.ending IS NOT NULL THEN clock END,
      coalesce(given.ending, ''), coalesce(given.forked_at, 0), coalesce(given.forked_at, 0), 0,
      coalesce(least(clock + given.ttl, given.expires_at), 9223372036854775807))
    ON CONFLICT (id) DO NOTHING RETURNING * INTO this;
    -- Otherwise another process was faster.
    EXIT WHEN FOUND;
  END LOOP;
  this := ${of('add')}(this, texts, lengths);
  UPDATE ${runs} SET dropped = this.dropped, tail = this.tail, length = this.length WHERE run = this.run;
  RETURN json_build_array('created', ${of('record')}(this, clock));
END $$;

-- Carries out many appends, so that they share a commit. Those of one run keep their order. The entries of all, with
-- the numbers of their calls, are no part of the JSON, because it would take several times as long to read.
CREATE OR REPLACE FUNCTION ${of('append')}(calls json, numbers int[], texts text[], lengths int[])
RETURNS TABLE (call_number int, reply text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  given record;
  this ${runs};
  known ${producers};
  clock bigint;
  outcome text;
  append_id text;
BEGIN
  FOR given IN
    SELECT c.*, e.texts, e.lengths
    FROM json_to_recordset(calls) AS c(number int, id text, generation text, ending text, producer text,
      epoch bigint, seq bigint, append_order text)
    LEFT JOIN (
      SELECT u.number, array_agg(u.text ORDER BY u.at) AS texts, array_agg(u.length ORDER BY u.at) AS lengths
      FROM unnest(numbers, texts, lengths) WITH ORDINALITY AS u(number, text, length, at) GROUP BY u.number
    ) AS e ON e.number = c.number
    ORDER BY c.id COLLATE "C", c.number
  LOOP
    call_number := given.number;
    this := ${of('find')}(given.id);
    clock := ${of('clock')}();
    IF this.run IS NULL OR NOT ${of('is_here')}(this, clock) OR given.generation <> this.generation THEN
      reply := json_build_array('unknown',
        CASE WHEN this.run IS NOT NULL THEN ${of('record')}(this, clock) END);
      RETURN NEXT;
      CONTINUE;
    END IF;
    append_id := given.epoch || ' ' || given.seq || ' ' || given.producer;
    SELECT * INTO known FROM ${producers} WHERE run = this.run AND producer = given.producer;
    outcome := CASE
      WHEN this.ended_at IS NOT NULL THEN
        CASE WHEN this.ended_by = append_id THEN 'duplicate' ELSE 'ended' END
      WHEN given.epoch < known.epoch THEN 'stale epoch'
      WHEN given.producer IS NOT NULL AND known.epoch IS NULL AND given.seq <> 0 THEN 'gap'
      WHEN given.epoch > known.epoch AND given.seq <> 0 THEN 'wrong start'
      WHEN given.epoch = known.epoch AND given.seq <= known.seq THEN 'duplicate'
      WHEN given.epoch = known.epoch AND given.seq > known.seq + 1 THEN 'gap'
      WHEN given.append_order COLLATE "C" <= this.last_order THEN 'wrong order'
      ELSE 'appended'
    END;
    IF outcome = 'appended' THEN
      this := ${of('add')}(this, given.texts, given.lengths);
      UPDATE ${runs} SET
        dropped = this.dropped, tail = this.tail, length = this.length,
        last_order = coalesce(given.append_order, last_order),
        touched_at = greatest(touched_at, clock), leased_at = clock, version = version + 1,
        ending = coalesce(given.ending, ending),
        ended_at = CASE WHEN given.ending IS NOT NULL THEN clock END,
        ended_by = CASE WHEN given.ending IS NOT NULL THEN append_id END
      WHERE run = this.run RETURNING * INTO this;
      IF given.producer IS NOT NULL THEN
        INSERT INTO ${producers} VALUES (this.run, given.producer, given.epoch, given.seq)
        ON CONFLICT (run, producer) DO UPDATE SET epoch = given.epoch, seq = given.seq
        RETURNING * INTO known;
      END IF;
      PERFORM ${of('ring')}(this, this.version::text);
    END IF;
    reply := json_build_array(outcome, ${of('record')}(this, clock), known.epoch, known.seq);
    RETURN NEXT;
  END LOOP;
END $$;

-- The record and the position before the first entry, and then the entries, all of one moment.
CREATE OR REPLACE FUNCTION ${of('page')}(run_id text, after bigint, max_entries bigint, max_length bigint)
RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
  this ${runs};
  part ${runs};
  part_end bigint;
  at bigint;
  entry record;
  count bigint := 0;
  size bigint := 0;
  clock bigint := ${of('clock')}();
BEGIN
  SELECT * INTO this FROM ${runs} WHERE id = run_id;
  IF NOT FOUND THEN RETURN; END IF;
  at := greatest(after, ${of('start_of')}(this));
  RETURN NEXT json_build_array(${of('record')}(this, clock), at)::text;
  IF NOT ${of('is_here')}(this, clock) THEN RETURN; END IF;
  WHILE at < this.tail LOOP
    -- The run, or the one of those that it was forked from, that holds the next entry.
    part := this;
    part_end := this.tail;
    WHILE part.source IS NOT NULL AND at < part.forked_at LOOP
      part_end := least(part_end, part.forked_at);
      SELECT * INTO part FROM ${runs} WHERE run = part.source;
    END LOOP;
    FOR entry IN
      SELECT e.position, e.length, e.text FROM ${entries} AS e
      WHERE e.run = part.run AND e.position > at AND e.position <= part_end ORDER BY e.position
    LOOP
      EXIT WHEN entry.position <> at + 1;
      IF count > 0 AND (count >= max_entries OR size + entry.length > max_length) THEN RETURN; END IF;
      RETURN NEXT entry.text;
      at := entry.position;
      count := count + 1;
      size := size + entry.length;
    END LOOP;
    IF at < part_end THEN
      RAISE data_corrupted USING MESSAGE = 'entry ' || at + 1 || ' of the run is missing';
    END IF;
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION ${of('read')}(run_id text, after bigint, max_entries bigint, max_length bigint)
RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  this ${runs};
  clock bigint := ${of('clock')}();
BEGIN
  SELECT * INTO this FROM ${runs} WHERE id = run_id;
  IF NOT FOUND OR ${of('is_forgotten')}(this, clock) THEN RETURN; END IF;
  IF ${of('lease_left')}(this, clock) <= 0
    OR (this.ttl IS NOT NULL AND this.touched_at < clock AND ${of('is_here')}(this, clock))
  THEN
    this := ${of('find')}(run_id);
    clock := ${of('clock')}();
    IF this.touched_at < clock AND ${of('is_here')}(this, clock) THEN
      -- Ahead by a part of the ttl: readers that share a run would otherwise write, and wait for each other, each time.
      UPDATE ${runs} SET touched_at = clock + least(ttl / 20, 60000) WHERE run = this.run AND ttl IS NOT NULL;
    END IF;
  END IF;
  RETURN QUERY SELECT * FROM ${of('page')}(run_id, after, max_entries, max_length);
END $$;

CREATE OR REPLACE FUNCTION ${of('get')}(run_id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  this ${runs};
  clock bigint := ${of('clock')}();
BEGIN
  SELECT * INTO this FROM ${runs} WHERE id = run_id;
  IF NOT FOUND OR ${of('is_forgotten')}(this, clock) THEN RETURN NULL; END IF;
  IF ${of('lease_left')}(this, clock) <= 0 THEN
    this := ${of('find')}(run_id);
    IF this.run IS NULL THEN RETURN NULL; END IF;
  END IF;
  RETURN ${of('record')}(this, clock);
END $$;

CREATE OR REPLACE FUNCTION ${of('renew')}(run_id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  this ${runs} := ${of('find')}(run_id);
  clock bigint := ${of('clock')}();
BEGIN
  IF this.run IS NULL THEN RETURN NULL; END IF;
  IF ${of('is_here')}(this, clock) THEN
    UPDATE ${runs} SET touched_at = greatest(touched_at, clock), leased_at = clock
    WHERE run = this.run RETURNING * INTO this;
  END IF;
  RETURN ${of('record')}(this, clock);
END $$;

CREATE OR REPLACE FUNCTION ${of('delete')}(run_id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  this ${runs} := ${of('find')}(run_id);
  clock bigint := ${of('clock')}();
  was json;
BEGIN
  IF this.run IS NULL THEN RETURN NULL; END IF;
  was := ${of('record')}(this, clock);
  IF was->>2 = 'deleted' THEN RETURN was; END IF;
  IF ${of('has_forks')}(this.run, clock) THEN
    UPDATE ${runs} SET deleted = true, version = version + 1, sweep_at = clock
    WHERE run = this.run RETURNING * INTO this;
    PERFORM ${of('ring')}(this, this.version::text);
  ELSE
    PERFORM ${of('forget')}(this);
    PERFORM ${of('ring')}(this, 'gone');
  END IF;
  RETURN was;
END $$;

-- Deletes up to about 1000 rows of runs that nothing has needed for so many milliseconds; returns how many it has
-- dealt with. The delay is for a fork that was begun when its source expired, and is not visible yet.
CREATE OR REPLACE FUNCTION ${of('sweep')}(delay bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  this ${runs};
  clock bigint := ${of('clock')}();
  rows_left bigint := 1000;
  deleted_rows bigint;
  done bigint := 0;
BEGIN
  -- Another process is at it.
  IF NOT pg_try_advisory_xact_lock(${LOCKS}, '${runs}'::regclass::oid::int4) THEN RETURN 0; END IF;
  FOR this IN
    SELECT * FROM ${runs} WHERE sweep_at <= clock - delay ORDER BY sweep_at LIMIT 100 FOR UPDATE SKIP LOCKED
  LOOP
    done := done + 1;
    IF ${of('is_here')}(this, clock) THEN
      UPDATE ${runs} SET sweep_at = least(touched_at + ttl, expires_at) WHERE run = this.run;
      CONTINUE;
    END IF;
    IF ${of('has_forks')}(this.run, clock) THEN
      UPDATE ${runs} SET sweep_at = clock + 60000 WHERE run = this.run;
      CONTINUE;
    END IF;
    DELETE FROM ${entries} WHERE run = this.run AND position IN (
      SELECT position FROM ${entries} WHERE run = this.run ORDER BY position LIMIT rows_left
    );
    GET DIAGNOSTICS deleted_rows = ROW_COUNT;
    rows_left := rows_left - deleted_rows;
    DELETE FROM ${producers} WHERE run = this.run AND producer IN (
      SELECT producer FROM ${producers} WHERE run = this.run LIMIT rows_left
    );
    GET DIAGNOSTICS deleted_rows = ROW_COUNT;
    rows_left := rows_left - deleted_rows;
    EXIT WHEN rows_left <= 0;
    IF ${of('is_forgotten')}(this, clock) THEN
      DELETE FROM ${runs} WHERE run = this.run;
    ELSE
      UPDATE ${runs} SET sweep_at = least(touched_at + ttl, expires_at) + remember WHERE run = this.run;
    END IF;
  END LOOP;
  RETURN done;
END $$;
`
}
