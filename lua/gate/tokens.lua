-- One lot of tokens from the bucket that all gateways share.
--
-- KEYS[1]  hash: lineage, at (us), level (millionths of a token)
-- ARGV[1]  lineage of the server, as the caller's connection found it
-- ARGV[2]  '1': the caller has just looked, this is the lineage now
-- ARGV[3]  tokens a second      ARGV[4]  tokens kept at most      ARGV[5]  tokens asked for
-- ARGV[6]  what this script told the caller last as its time, '' when nothing yet
-- ARGV[7]  us that the caller's monotonic clock counted since it sent that call
-- ARGV[8]  us that a call may take; a clock that is ahead by more has jumped
-- ARGV[9]  us to take for Redis' time; '' as a rule, tests move it
--
-- Answers 'ok <time, us> <tokens granted> <us until one more is there>', or 'look': look for the lineage, then ask again.
--
-- The level never rises by more than time has passed:
--   * A clock that steps back adds nothing, and what is added from then on goes by where it stepped to.
--   * A clock that jumps ahead is found out by the caller's own: nothing is added, and the time counts from there.
--   * A caller that has no time of its own yet (it has just started) cannot find that out: nothing is added.
--   * A bucket that was lost, or that another server or another life of it holds, is empty: it is not known what was taken.
local rate, size, asked = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(ARGV[9])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local known = redis.call('HMGET', KEYS[1], 'lineage', 'at', 'level')
if known[1] and known[1] ~= ARGV[1] and ARGV[2] ~= '1' then
  return 'look'
end
local level = 0
if known[1] == ARGV[1] then
  level = tonumber(known[3])
  local passed = now - tonumber(known[2])
  local told = tonumber(ARGV[6])
  local believed = told and now <= told + tonumber(ARGV[7]) + tonumber(ARGV[8])
  if believed and passed > 0 then
    level = level + passed * rate
  end
  level = math.min(level, size * 1000000)
end
local granted = math.min(asked, math.floor(level / 1000000))
level = level - granted * 1000000
redis.call('HSET', KEYS[1], 'lineage', ARGV[1], 'at', string.format('%.0f', now), 'level', string.format('%.0f', level))
local missing = math.max(0, math.ceil((1000000 - level) / rate))
return string.format('ok %.0f %.0f %.0f', now, granted, missing)
