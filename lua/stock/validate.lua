-- validate.lua: which orders a gateway may still deliver. Writes nothing.
--
-- keys   s t b o
-- args   generation, gateway, then 2 an order: ticket, claim epoch of the record about to be delivered
-- reply  {status, answer …}; status as in batch.lua. An answer is 1 deliver · 0 over: its ticket has ended, or is another
--        gateway's, or another record of it is the one to deliver · 2 unknown ticket · 3 not yet: it looks over, but by
--        what no log is known to hold
-- keeps  nothing is over for good by a change that goes with this server: the log that is left would deliver nothing
local why, me = refused(ARGV[1]), ARGV[2]
if why then return { why } end
local answers = {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local packed = redis.call('HGET', T, id)
  local answer = 2
  if packed and packed ~= 'x' then
    local t = cmsgpack.unpack(packed)
    if LIVE[t[STATUS]] and t[OWNER] == me and t[EPOCH] == tonumber(ARGV[i + 1]) then
      answer = 1
    else
      answer = pending(id, t) == 1 and 3 or 0
    end
  end
  answers[#answers + 1] = answer
end
return { 'ok', unpack(answers) }
