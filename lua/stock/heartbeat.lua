-- heartbeat.lua: a gateway says that it is there, hears who else is, and joins the fleet.
--
-- keys   gateways   hash  gateway -> what it tells of itself (JSON)
--        beats      zset  gateway, scored by Redis's time of its last heartbeat
--        members    set   every gateway that may ever have sold
--        joins      hash  'newcomer' -> 1, and 'newcomer|member' -> 1 once that member has recorded the join in its log
--        processes  hash  gateway -> number of its newest process
--        forgotten  hash  gateway -> when an operator gave its log up (forget.lua)
-- args   gateway, number of its process as the first heartbeat told it (0 before), what it tells of itself, dead after (ms),
--        unlisted after (ms), how many newcomers follow whose join it has recorded, those, then gateways that its log knows to
--        be forgotten and since when, which Redis may have lost: gateway, time, …
-- reply  {number of the process, 1 when a member, {members …}, {newcomers …}, {gateway, JSON, ms since its heartbeat, …},
--        {gateway, when it was forgotten, …}, Redis's time}, or {0} when a process with this id was started later: nothing was
--        done
-- keeps  a newcomer is a member only when every living member has it in its log; of two processes with one id, a copied data
--        folder, the one that was started last goes on, by the order in which they came to Redis and by no gateway's clock
local gateways, beats, members, joins, processes, forgotten = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local me, process, dead_after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local newest = tonumber(redis.call('HGET', processes, me) or 0)
if process == 0 then
  -- By the time, so that one that is started after Redis forgot is still above all before.
  process = math.max(now, newest + 1)
elseif process < newest then
  return { 0 }
end
-- A failover may have lost it.
if process ~= newest then redis.call('HSET', processes, me, string.format('%.0f', process)) end
redis.call('HSET', gateways, me, ARGV[3])
redis.call('ZADD', beats, now, me)
-- Whoever is here is not gone; it joins anew.
redis.call('HDEL', forgotten, me)
for i = 7, 6 + tonumber(ARGV[6]) do
  if redis.call('HEXISTS', joins, ARGV[i]) == 1 then redis.call('HSET', joins, ARGV[i] .. '|' .. me, 1) end
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', beats, '-inf', now - tonumber(ARGV[5]))) do
  redis.call('ZREM', beats, gone)
  redis.call('HDEL', gateways, gone)
  redis.call('HDEL', processes, gone)
end
for i = 7 + tonumber(ARGV[6]), #ARGV, 2 do
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
return { process, member, redis.call('SMEMBERS', members), newcomers, list, redis.call('HGETALL', forgotten), now }
