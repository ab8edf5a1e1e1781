-- heartbeat.lua: a gateway says that it is there, hears who else is, and joins the fleet.
--
-- keys   gateways   hash  gateway -> what it tells of itself (JSON)
--        beats      zset  gateway, scored by Redis's time of its last heartbeat
--        members    set   every gateway that may ever have sold
--        joins      hash  'newcomer' -> 1, and 'newcomer|member' -> 1 once that member has recorded the join in its log
--        processes  hash  gateway -> 'number end confirmed': its newest process, how far its log was on disk, and the newest
--                         number of those before it that others knew and its log has been found to hold; -1: others know that
--                         process, and whoever beats has not told yet that its log holds it
--        forgotten  hash  gateway -> when an operator gave its log up (forget.lua)
-- args   gateway, number of its process (propose.lua), the newest number that it may follow, the newest that it was asked for
--        since it beats (confirmed), both held by its log, end of its log on disk, what it tells of itself, dead after
--        (ms), unlisted after (ms), how many newcomers follow whose join it has recorded, those, how many processes of
--        others follow that it knows, those: gateway, number, how far its log was, …, then gateways that its log knows to be forgotten and since when, which Redis
--        may have lost: gateway, time, …
-- reply  {1 when a member, {members …}, {newcomers …}, {gateway, JSON, ms since its heartbeat, process, end of its log,
--        confirmed, …},
--        {gateway, when it was forgotten, …}, Redis's time}, or {-1, newest process, end of its log} when another process has
--        this id, and this one must not go on unless its log holds that number, or when this one's log was further already:
--        nothing was done
-- keeps  a newcomer is a member only when every living member has it in its log; a process follows another one only when its
--        log holds the number of that one, so whatever comes late or twice takes no id over; a number that somebody else's
--        log holds counts although Redis has lost it
local gateways, beats, members, joins, processes, forgotten = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local me, process, base, log_end = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local dead_after, recorded = tonumber(ARGV[7]), tonumber(ARGV[9])
local known = tonumber(ARGV[10 + recorded])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function process_of(gateway)
  local number, far, confirmed = string.match(redis.call('HGET', processes, gateway) or '', '^(%d+) (%d+) (%-?%d+)$')
  return tonumber(number or 0), tonumber(far or 0), tonumber(confirmed or 0)
end
local newest, far = process_of(me)
if newest ~= process and newest > base or newest == process and far > log_end then return { -1, newest, far } end
redis.call('HSET', processes, me, ARGV[2] .. ' ' .. ARGV[5] .. ' ' .. ARGV[4])
redis.call('HSET', gateways, me, ARGV[6])
redis.call('ZADD', beats, now, me)
-- Whoever is here is not gone; it joins anew.
redis.call('HDEL', forgotten, me)
for i = 10, 9 + recorded do
  if redis.call('HEXISTS', joins, ARGV[i]) == 1 then redis.call('HSET', joins, ARGV[i] .. '|' .. me, 1) end
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', beats, '-inf', now - tonumber(ARGV[8]))) do
  redis.call('ZREM', beats, gone)
  redis.call('HDEL', gateways, gone)
  -- Of one that may have sold it is known for ever: it is what tells an old copy of its data folder.
  if redis.call('SISMEMBER', members, gone) == 0 then redis.call('HDEL', processes, gone) end
end
for i = 11 + recorded, 10 + recorded + 3 * known, 3 do
  local other, told, its_end = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local number, far, confirmed = process_of(other)
  if other ~= me and (told > confirmed and told ~= number or told == number and its_end > far) then
    local beat = redis.call('ZSCORE', beats, other)
    -- A process that lives is asked whether its log holds that one too: its next heartbeat is refused, and tells.
    if told >= number or beat and now - tonumber(beat) < dead_after then
      if told ~= number then confirmed = -1 end
      redis.call('HSET', processes, other, ARGV[i + 1] .. ' ' .. ARGV[i + 2] .. ' ' .. string.format('%.0f', confirmed))
    end
  end
end
for i = 11 + recorded + 3 * known, #ARGV, 2 do
  if redis.call('SISMEMBER', members, ARGV[i]) == 0 and not redis.call('ZSCORE', beats, ARGV[i]) then
    redis.call('HSETNX', forgotten, ARGV[i], ARGV[i + 1])
  end
end
local seen, list, living = redis.call('ZRANGE', beats, 0, -1, 'WITHSCORES'), {}, {}
for i = 1, #seen, 2 do
  local age = math.max(0, now - tonumber(seen[i + 1]))
  list[#list + 1] = seen[i]
  list[#list + 1] = redis.call('HGET', gateways, seen[i]) or '{}'
  list[#list + 1] = age
  local number, far, confirmed = process_of(seen[i])
  list[#list + 1] = number
  list[#list + 1] = far
  list[#list + 1] = confirmed
  if age < dead_after then living[#living + 1] = seen[i] end
end
local member = redis.call('SISMEMBER', members, me)
if member == 0 then
  local agreed = true
  for _, other in ipairs(living) do
    if other ~= me and redis.call('SISMEMBER', members, other) == 1
      and redis.call('HEXISTS', joins, me .. '|' .. other) == 0 then agreed = false end
  end
  if agreed then
    member = 1
    redis.call('SADD', members, me)
    redis.call('HDEL', joins, me)
    for _, field in ipairs(redis.call('HKEYS', joins)) do
      if string.sub(field, 1, #me + 1) == me .. '|' then redis.call('HDEL', joins, field) end
    end
  else
    redis.call('HSET', joins, me, 1)
  end
end
local newcomers = {}
for _, field in ipairs(redis.call('HKEYS', joins)) do
  if not string.find(field, '|', 1, true) and field ~= me
    and redis.call('HEXISTS', joins, field .. '|' .. me) == 0 then newcomers[#newcomers + 1] = field end
end
return { member, redis.call('SMEMBERS', members), newcomers, list, redis.call('HGETALL', forgotten), now }
