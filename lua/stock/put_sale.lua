-- put_sale.lua: creates a sale, or changes everything of it but the stock.
--
-- keys   s t b o d w
-- args   channel, sale, lineage, 1 when the caller's log holds the sale, spec (JSON), stock, then what the other scripts read of
--        the spec: opens, closes ('' when unset), limit, qmax, cr (0 or 1), deadline, paywin, item
-- reply  {'created' | 'changed' | 'unchanged' | 'paused' (or about to be), version of the spec, units at creation}; 'stock' when
--        they differ; 'over' when it is at rest (rest.lua); 'lost' when Redis does not know a sale that a log holds
-- keeps  a repeat changes nothing; what was sold is never overwritten; the version rises with every change. A sale is told
--        from one that was made again by when it was made ('born'), for the logs remember that.
--
-- Fields of s: v version of the spec, sw switch (s o c), spec, opens closes limit qmax cr deadline paywin item; ini res av live ret
-- sold back (units); ep epoch, gen generation, lin lineage, born, paused, rec (the recovery under way), logs (of which gateways are in this
-- generation), n (news), schema.
local channel, sale = ARGV[1], ARGV[2]
local m = redis.call('HMGET', S, 'ini', 'spec', 'v', 'paused', 'lin', 'over')
if m[4] and (m[4] ~= '' or m[5] ~= ARGV[3]) then return { 'paused', 0, 0 } end
if not m[1] and ARGV[4] == '1' then return { 'lost', 0, 0 } end
local done = 'created'
if m[1] then
  if m[1] ~= ARGV[6] then return { 'stock', tonumber(m[3]), m[1] } end
  if m[2] == ARGV[5] then return { 'unchanged', tonumber(m[3]), m[1] } end
  if m[6] then return { 'over', 0, 0 } end
  done = 'changed'
else
  redis.call('HSET', S, 'schema', 1, 'v', 0, 'sw', 's', 'ini', ARGV[6], 'res', 0, 'av', ARGV[6], 'live', 0, 'ret', 0,
    'sold', 0, 'back', 0, 'ep', 0, 'gen', clock(), 'born', clock(), 'lin', ARGV[3], 'paused', '', 'rec', '',
    'logs', ',', 'n', 0)
end
redis.call('HSET', S, 'spec', ARGV[5], 'opens', ARGV[7], 'closes', ARGV[8], 'limit', ARGV[9], 'qmax', ARGV[10], 'cr', ARGV[11],
  'deadline', ARGV[12], 'paywin', ARGV[13], 'item', ARGV[14])
local v = redis.call('HINCRBY', S, 'v', 1)
publish(channel, sale)
return { done, v, ARGV[6] }
