-- read.lua: tickets as they stand. Writes nothing.
--
-- keys   s t b o
-- args   tickets …
-- reply  one a ticket: 0 no such ticket, or {pending, packed ticket}; or {'paused' | 'nosale'}
-- keeps  nothing is told of a sale that lacks what a log holds
local m = redis.call('HGET', S, 'paused')
if not m then return { 'nosale' } end
if m ~= '' then return { 'paused' } end
local answers = {}
for i, id in ipairs(ARGV) do
  local packed = redis.call('HGET', T, id)
  if not packed or packed == 'x' then
    answers[i] = 0
  else
    answers[i] = { pending(id, cmsgpack.unpack(packed)), packed }
  end
end
return answers
