/**
 * The methods of `redisRuns()` as Lua scripts: Redis runs a script as a whole, so a crash leaves all of its
 * effects or none.
 *
 * A run has up to three keys and a channel, all under the hash tag of the store's key:
 *
 * - `{key}:run:<id>`, a hash: everything that is known of the run, and `p:<id>` for each producer.
 * - `{key}:log:<id>`, a stream: its own entries, with the ids `<position>-0` and the fields `d` (text) and `n`
 *   (length in characters, which Lua cannot count).
 * - `{key}:forks:<id>`, a sorted set: the forks that need its entries, by the time until which they do.
 * - `{key}:news:<database>:<id>`, a channel: what changed, as a flat JSON array, or `''` if that would be large.
 *
 * Redis deletes the keys when their time has come (PEXPIREAT), even if nobody asks for the run again. The
 * scripts also compare the times themselves, because a hash outlives its run (`remember`, forks).
 *
 * Two rules for changes:
 *
 * - Redis does not undo what a script has written before it fails. So the first write must be the one that fails
 *   if Redis is out of memory or the key has another type; after a write, Redis no longer checks its memory.
 * - Numbers become strings by `text()` only: Lua itself would write 15 digits and more as `1e+15`.
 */

/** Reads the arguments that all scripts have, and defines what they share. */
const PROLOGUE = `
-- Redis 5 and 6 must be told to replicate the effects of a script that reads the clock.
if redis.replicate_commands then redis.replicate_commands() end

local prefix, channels, id = ARGV[1], ARGV[2], ARGV[3]
local NEVER = math.huge
local MAX_NEWS_BYTES = 16384
local NUMBERS = { 'ttl', 'expiresAt', 'remember', 'leaseMs', 'maxLength', 'at', 'createdAt', 'endedAt',
  'dropped', 'tail', 'length', 'touchedAt', 'leaseFrom' }
local TEXTS = { 'generation', 'meta', 'leaseEnding', 'from', 'ending', 'endedBy', 'order', 'deleted' }

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function keyOf(kind, id) return prefix .. kind .. ':' .. id end

local function text(number)
  if number == nil then return '' end
  return string.format('%.0f', number)
end

local function row(position) return text(position) .. '-0' end

-- The run as a table, or nil. A field that it does not have is nil.
local function load(id)
  local fields = {}
  for _, name in ipairs(NUMBERS) do fields[#fields + 1] = name end
  for _, name in ipairs(TEXTS) do fields[#fields + 1] = name end
  local values = redis.call('HMGET', keyOf('run', id), unpack(fields))
  local run = { id = id }
  for i, name in ipairs(fields) do
    if values[i] then run[name] = i <= #NUMBERS and tonumber(values[i]) or values[i] end
  end
  return run.generation and run or nil
end

local function save(run, names)
  local pairs = {}
  for _, name in ipairs(names) do
    local value = run[name]
    if value ~= nil then
      pairs[#pairs + 1] = name
      pairs[#pairs + 1] = type(value) == 'number' and text(value) or value
    end
  end
  redis.call('HSET', keyOf('run', run.id), unpack(pairs))
end

-- The run that this one was forked from. A run of another generation only has the same id.
local function sourceOf(run)
  local source = run.from and load(run.from)
  return source and source.generation == run.generation and source or nil
end

local function expiryOf(run)
  local slides = run.ttl and run.touchedAt + run.ttl or NEVER
  return math.min(slides, run.expiresAt or NEVER)
end

-- Until when any fork needs its entries; 0 without forks.
local function forksUntil(run)
  if run.forksUntil == nil then
    local newest = redis.call('ZREVRANGE', keyOf('forks', run.id), 0, 0, 'WITHSCORES')[2]
    run.forksUntil = newest == 'inf' and NEVER or tonumber(newest or 0)
  end
  return run.forksUntil
end

local function hasForks(run) return now < forksUntil(run) end

local function isHere(run) return not run.deleted and now < expiryOf(run) end

local function statusOf(run)
  if run.deleted then return 'deleted' end
  -- An expired run that is kept for its forks counts as deleted.
  if not isHere(run) then return hasForks(run) and 'deleted' or 'expired' end
  return run.endedAt and 'ended' or 'open'
end

local function entriesUntil(run)
  return math.max(run.deleted and 0 or expiryOf(run), forksUntil(run))
end

local function recordUntil(run)
  return math.max(run.deleted and 0 or expiryOf(run) + (run.remember or 0), forksUntil(run))
end

local function expireAt(key, time)
  if time <= now then redis.call('DEL', key)
  -- Redis refuses times that do not fit into 64 bits.
  elseif time > 2 ^ 53 then redis.call('PERSIST', key)
  else redis.call('PEXPIREAT', key, text(math.ceil(time))) end
end

-- Makes Redis delete the keys of the run when nothing needs them any more, and so on along the runs that it
-- was forked from. Call it after each change of a time, of the forks, or of the keys that exist.
local function keep(run)
  while run do
    expireAt(keyOf('log', run.id), entriesUntil(run))
    expireAt(keyOf('run', run.id), recordUntil(run))
    expireAt(keyOf('forks', run.id), recordUntil(run))
    local source = sourceOf(run)
    if not source then return end
    local before, forks = forksUntil(source), keyOf('forks', source.id)
    local time = entriesUntil(run)
    if time > now then redis.call('ZADD', forks, time == NEVER and 'inf' or text(time), run.id)
    else redis.call('ZREM', forks, run.id) end
    -- Forks that have expired by themselves.
    redis.call('ZREMRANGEBYSCORE', forks, '-inf', text(now))
    source.forksUntil = nil
    if forksUntil(source) == before then return end
    run = source
  end
end

local function leaseLeft(run)
  if not run.leaseMs or run.endedAt or not isHere(run) then return nil end
  return run.leaseFrom + run.leaseMs - now
end

-- The position before the oldest entry that can be read.
local function startOf(run)
  local start = run.dropped
  while run.from and run.dropped == run.at do
    local source = sourceOf(run)
    if not source then return start end
    start = math.min(start, source.dropped)
    run = source
  end
  return start
end

local function record(run)
  return { run.generation, run.meta, statusOf(run), run.ending or '', text(startOf(run)),
    text(run.tail), text(run.createdAt), text(run.endedAt), text(run.ttl), text(run.expiresAt),
    text(leaseLeft(run)) }
end

local function publish(run, after, entries)
  local news, size = record(run), 0
  news[#news + 1] = text(after)
  for _, entry in ipairs(entries) do
    news[#news + 1] = entry
    size = size + #entry
  end
  local message = size + #run.meta <= MAX_NEWS_BYTES and cjson.encode(news) or ''
  -- The entries are stored by now, so a lack of permission for the channel must not fail the script.
  redis.pcall('PUBLISH', channels .. run.id, message)
end

local function finish(run, ending)
  run.ending, run.endedAt = ending, now
end

-- The run, or nil if there is none. Ends it if its lease is over.
local function find(id)
  local run = load(id)
  if not run or now >= recordUntil(run) then return nil end
  local left = leaseLeft(run)
  if left and left <= 0 then
    finish(run, run.leaseEnding)
    save(run, { 'ending', 'endedAt' })
    publish(run, run.tail, {})
  end
  return run
end

-- Appends the entries in ARGV, from this index on: text, length, text, length... Returns the texts.
local function add(run, first)
  local entries, log = {}, keyOf('log', run.id)
  for i = first, #ARGV, 2 do
    redis.call('XADD', log, row(run.tail + 1), 'd', ARGV[i], 'n', ARGV[i + 1])
    run.tail = run.tail + 1
    run.length = run.length + tonumber(ARGV[i + 1])
    entries[#entries + 1] = ARGV[i]
  end
  local dropped = run.dropped
  while run.maxLength and run.length > run.maxLength and run.dropped < run.tail - 1 do
    local rows = redis.call('XRANGE', log, row(run.dropped + 1), row(run.tail - 1), 'COUNT', 16)
    if #rows == 0 then break end
    for _, oldest in ipairs(rows) do
      if run.length <= run.maxLength then break end
      run.length = run.length - tonumber(oldest[2][4])
      run.dropped = run.dropped + 1
    end
  end
  if run.dropped > dropped then redis.call('XTRIM', log, 'MAXLEN', text(run.tail - run.dropped)) end
  return entries
end

local function touch(run)
  run.touchedAt = now
  if not run.ttl then return end
  keep(run)
  save(run, { 'touchedAt' })
end
`

const CREATE = `
local run = find(id)
if run then return { 'exists', record(run) } end
run = cjson.decode(ARGV[4])
if run.from then
  local source = find(run.from)
  local status = source and statusOf(source) or 'expired'
  if status == 'expired' then return { 'no source' } end
  if status == 'deleted' then return { 'source deleted' } end
  if run.at > source.tail or run.at < startOf(source) then return { 'no position' } end
  run.generation = source.generation
end
-- Keys of an earlier run that was evicted in part. DEL is a write that needs no memory, so without such keys it
-- must not be the first one.
for _, kind in ipairs({ 'log', 'run', 'forks' }) do
  if redis.call('EXISTS', keyOf(kind, id)) == 1 then redis.call('DEL', keyOf(kind, id)) end
end
run.id, run.length = id, 0
run.tail = run.at or 0
run.dropped = run.tail
run.createdAt, run.touchedAt, run.leaseFrom = now, now, now
add(run, 5)
if run.ending then finish(run, run.ending) end
save(run, NUMBERS)
save(run, TEXTS)
keep(run)
return { 'created', record(run) }
`

const APPEND = `
local given = cjson.decode(ARGV[4])
local run = find(id)
if not run then return { 'unknown' } end
if not isHere(run) or (given.generation and given.generation ~= run.generation) then
  return { 'unknown', record(run) }
end

local key = keyOf('run', id)
local producer = given.producer
local field, this, epoch, seq
if producer then
  field = 'p:' .. producer.id
  this = text(producer.epoch) .. ' ' .. text(producer.seq)
  local known = redis.call('HGET', key, field)
  if known then
    epoch, seq = string.match(known, '^(%d+) (%d+)$')
    epoch, seq = tonumber(epoch), tonumber(seq)
  end
end

-- Redis compares by the locale of the server, so Lua's operators do too.
local function isGreater(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

local function refusal()
  if run.endedAt then
    return producer and run.endedBy == this .. ' ' .. producer.id and 'duplicate' or 'ended'
  end
  if producer then
    if epoch and producer.epoch < epoch then return 'stale epoch' end
    if not epoch or producer.epoch > epoch then
      if producer.seq ~= 0 then return epoch and 'wrong start' or 'gap' end
    else
      if producer.seq <= seq then return 'duplicate' end
      if producer.seq ~= seq + 1 then return 'gap' end
    end
  end
  if given.order and run.order and not isGreater(given.order, run.order) then return 'wrong order' end
end

local refused = refusal()
if refused then return { refused, record(run), text(epoch), text(seq) } end

local after = run.tail
local entries = add(run, 5)
run.order = given.order or run.order
run.touchedAt, run.leaseFrom = now, now
if given.ending then
  finish(run, given.ending)
  if producer then run.endedBy = this .. ' ' .. producer.id end
end
save(run, { 'tail', 'dropped', 'length', 'order', 'touchedAt', 'leaseFrom', 'ending', 'endedAt', 'endedBy' })
if producer then
  redis.call('HSET', key, field, this)
  epoch, seq = producer.epoch, producer.seq
end
-- The first entry has created the log, which must expire too.
if expiryOf(run) < NEVER then keep(run) end
publish(run, after, entries)
return { 'appended', record(run), text(epoch), text(seq) }
`

const READ = `
local run = find(id)
if not run then return false end
local after = math.max(tonumber(ARGV[4]), startOf(run))
if not isHere(run) then return { record(run), text(after), {} } end
touch(run)

-- The runs that hold the entries after this position, the newest first, and where each one's part ends.
local parts = { { run = run, upTo = run.tail } }
while parts[#parts].run.from and after < parts[#parts].run.at do
  local part = parts[#parts]
  parts[#parts + 1] = { run = sourceOf(part.run), upTo = math.min(part.upTo, part.run.at) }
end

local maxEntries, maxLength = tonumber(ARGV[5]), tonumber(ARGV[6])
local texts, length, at = {}, 0, after
-- How many entries to load at a time: as many as fit if they are like those before.
local function chunk()
  local fitting = #texts == 0 and 8 or math.floor((maxLength - length) / (length / #texts + 1)) + 1
  return math.max(1, math.min(fitting, maxEntries - #texts, 1000))
end
for i = #parts, 1, -1 do
  local part = parts[i]
  while at < part.upTo and #texts < maxEntries do
    local log = keyOf('log', part.run.id)
    local rows = redis.call('XRANGE', log, row(at + 1), row(part.upTo), 'COUNT', text(chunk()))
    if #rows == 0 then
      return redis.error_reply('EVICTED entries of a run are missing in ' .. log)
    end
    for _, entry in ipairs(rows) do
      if entry[1] ~= row(at + 1) then
        return redis.error_reply('EVICTED entries of a run are missing in ' .. log)
      end
      local size = tonumber(entry[2][4])
      if #texts > 0 and length + size > maxLength then return { record(run), text(after), texts } end
      texts[#texts + 1] = entry[2][2]
      length, at = length + size, at + 1
    end
  end
end
return { record(run), text(after), texts }
`

const GET = `
local run = find(id)
return run and record(run)
`

const RENEW = `
local run = find(id)
if run and isHere(run) then
  touch(run)
  run.leaseFrom = now
  if run.leaseMs then save(run, { 'leaseFrom' }) end
end
return run and record(run)
`

const DELETE = `
local run = find(id)
if not run then return false end
local was = record(run)
if was[3] ~= 'deleted' then
  run.deleted = '1'
  -- HSET needs memory, and without forks there is nothing to remember.
  if hasForks(run) then save(run, { 'deleted' }) end
  keep(run)
  redis.pcall('PUBLISH', channels .. id, '')
end
return was
`

export const SCRIPTS = {
  create: PROLOGUE + CREATE,
  append: PROLOGUE + APPEND,
  read: PROLOGUE + READ,
  get: PROLOGUE + GET,
  renew: PROLOGUE + RENEW,
  delete: PROLOGUE + DELETE,
} as const

export type ScriptName = keyof typeof SCRIPTS
