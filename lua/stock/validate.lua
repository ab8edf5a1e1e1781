-- validate.lua: which orders a gateway may still deliver. Writes nothing.
--
-- keys   s t
-- args   gateway, then 2 an order: ticket, claim epoch of the record about to be delivered
-- reply  {status, answer …}; status 'ok', 'paused' or 'nosale'. An answer is 1 deliver · 0 over: its ticket has ended, or is
--        another gateway's, or another record of it is the one to deliver · 2 unknown ticket
local m = redis.call('HGET', S, 'paused')
if not m then return { 'nosale' } end
if m ~= '' then return { 'paused' } end
local answers = {}
for i = 2, #ARGV, 2 do
  local packed = redis.call('HGET', T, ARGV[i])
  local answer = 2
  if packed and packed ~= 'x' then
    local t = cmsgpack.unpack(packed)
    answer = LIVE[t[STATUS]] and t[OWNER] == ARGV[1] and t[EPOCH] == tonumber(ARGV[i + 1]) and 1 or 0
  end
  answers[#answers + 1] = answer
end
return { 'ok', unpack(answers) }
