-- sweep.lua: claims notes that nobody cleared, tells what is overdue, forgets old tombstones.
--
-- keys   s t b o d w r x
-- args   generation, gateway, claim after (ms), most notes, due before (ms, the gateway's clock), most due. Zero is none.
-- reply  {status, {{note, packed ticket or ''} …}, {{ticket, status} …}}; status as in batch.lua. Each note is the
--        gateway's now: append its record, then clear it.
-- keeps  ages go by Redis's time, and nothing is due before that: a gateway whose clock runs ahead finds no more than the
--        others; a claim renames a step's note, and with the ticket's newest record the ticket changes hands
local me = ARGV[2]
local why = refused(ARGV[1])
if why then return { why } end
local now = clock()
local claimed = {}
local old = redis.call('ZRANGEBYSCORE', O, '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, tonumber(ARGV[4]))
for _, name in ipairs(old) do
  local kind, id, renamed, packed = string.sub(name, 1, 1), string.sub(name, 2, 27), name, ''
  if kind ~= 's' then packed = redis.call('HGET', T, id) end
  if kind ~= 's' and kind ~= 'm' then
    local version, epoch, rest = string.match(name, '^.[^:]+:(%d+):(%d+)(.*)$')
    local t = cmsgpack.unpack(packed)
    epoch = tonumber(epoch) + 1
    if tonumber(version) == t[VERSION] then
      t[OWNER], t[EPOCH] = me, epoch
      packed = cmsgpack.pack(t)
      redis.call('HSET', T, id, packed)
    end
    renamed = kind .. id .. ':' .. version .. ':' .. epoch .. rest
  end
  redis.call('ZREM', O, name)
  redis.call('ZADD', O, now, renamed)
  claimed[#claimed + 1] = { renamed, packed }
end
local due = {}
local before = string.format('(%.0f', math.min(tonumber(ARGV[5]), now))
local overdue = redis.call('ZRANGEBYSCORE', D, '-inf', before, 'LIMIT', 0, tonumber(ARGV[6]))
for i, id in ipairs(overdue) do due[i] = { id, cmsgpack.unpack(redis.call('HGET', T, id))[STATUS] } end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', X, '-inf', now - 3600000, 'LIMIT', 0, 100)) do
  redis.call('ZREM', X, id)
  if redis.call('HGET', T, id) == 'x' then redis.call('HDEL', T, id) end
end
return { 'ok', claimed, due }
