-- buyer.lua: the tickets of a buyer, oldest first, or the one of an idempotency key. Writes nothing.
--
-- keys   s t b o
-- args   generation or '', buyer, most tickets, key hash or '', body hash
-- reply  a status as in batch.lua · with a key: 1 unknown key, 5 other body, {6, pending, ticket, packed} · without: {{pending, ticket,
--        packed} …}, the newest of them when there are more
local why = refused(ARGV[1])
if why then return why end
local b = redis.call('HGET', B, ARGV[2])
local key = ARGV[4]
if not b then return key ~= '' and 1 or {} end
local from = string.find(b, ';', 1, true) + 1
local function told(e)
  local id = string.sub(b, e, e + 25)
  local packed = redis.call('HGET', T, id)
  return pending(id, cmsgpack.unpack(packed)), id, packed
end
if key ~= '' then
  for e = #b - 57, from, -58 do
    if string.sub(b, e + 26, e + 41) == key then
      if string.sub(b, e + 42, e + 57) ~= ARGV[5] then return 5 end
      return { 6, told(e) }
    end
  end
  return 1
end
local answers = {}
for e = math.max(from, #b + 1 - 58 * tonumber(ARGV[3])), #b, 58 do answers[#answers + 1] = { told(e) } end
return answers
