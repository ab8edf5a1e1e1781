-- The bans that all gateways of a fleet keep. One hash: client -> ban, as a gateway packed it; "#" -> the version of the
-- whole, which rises with every change and never begins at the same number twice.
--
-- KEYS[1]  the hash
-- ARGV[1]  "read": ARGV[2] the version that is known   -> nil: no other; else { version, { client, ban, … } }
--          "put": client, ban, how many at most        -> 1; 0: that many are there
--          "remove": client                            -> 1; 0: it was not there

local bans, op = KEYS[1], ARGV[1]

local function changed()
  if redis.call('HEXISTS', bans, '#') == 0 then
    local time = redis.call('TIME')
    redis.call('HSET', bans, '#', time[1] .. string.format('%06d', tonumber(time[2])))
  end
  redis.call('HINCRBY', bans, '#', 1)
  return 1
end

if op == 'read' then
  local version = redis.call('HGET', bans, '#') or '0'
  if version == ARGV[2] then
    return false
  end
  return { version, redis.call('HGETALL', bans) }
end

if op == 'put' then
  local known = redis.call('HEXISTS', bans, ARGV[2]) == 1
  if not known and redis.call('HLEN', bans) > tonumber(ARGV[4]) then
    return 0
  end
  redis.call('HSET', bans, ARGV[2], ARGV[3])
  return changed()
end

if redis.call('HDEL', bans, ARGV[2]) == 0 then
  return 0
end
return changed()
