-- audit.lua: counts the tickets again, all in one call: about a second of Redis per million tickets. Writes nothing.
--
-- keys   s t b o d w r
-- reply  {} no such sale, or {ini, res, av, live, ret, sold, back, paused, units waiting in notes, units of restocks, then for each
--        status in the order q a p c e r d f: tickets, units}
local m = redis.call('HMGET', S, 'ini', 'res', 'av', 'live', 'ret', 'sold', 'back', 'paused')
if not m[8] then return {} end
local count, units = {}, {}
local cursor = '0'
repeat
  local page = redis.call('HSCAN', T, cursor, 'COUNT', 1000)
  cursor = page[1]
  for i = 2, #page[2], 2 do
    if page[2][i] ~= 'x' then
      local t = cmsgpack.unpack(page[2][i])
      local s = t[STATUS]
      count[s] = (count[s] or 0) + 1
      units[s] = (units[s] or 0) + t[QUANTITY]
    end
  end
until cursor == '0'
local waiting, restocked = 0, 0
cursor = '0'
repeat
  local page = redis.call('ZSCAN', O, cursor, 'COUNT', 1000)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local name = page[2][i]
    local kind = string.sub(name, 1, 1)
    if kind == 'r' then waiting = waiting + tonumber(string.match(name, '([^:]+)$')) end
    if kind == 's' then waiting = waiting + tonumber(string.match(name, '^s0:(%d+):')) end
  end
until cursor == '0'
for _, n in ipairs(redis.call('HVALS', R)) do restocked = restocked + tonumber(n) end
local reply = { m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], waiting, restocked }
for s in string.gmatch('qapcerdf', '.') do
  reply[#reply + 1] = count[s] or 0
  reply[#reply + 1] = units[s] or 0
end
return reply
