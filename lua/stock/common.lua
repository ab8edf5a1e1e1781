-- common.lua: stands before every script of a sale.
--
-- Keys of one sale, all in one hash slot, always in this order; a script is given as many as it uses:
--   s  hash    meta: spec, counters, epoch, generation (see put_sale.lua)
--   t  hash    ticket -> packed ticket (msgpack array, fields below), or 'x' for a tombstone
--   b  hash    buyer -> "counted,ever;" then 58 bytes a ticket: id (26), key hash (16, or dashes), body hash (16)
--   o  zset    outbox: notes of what no log is known to hold yet, scored by Redis's time when they were noted
--   d  zset    live tickets by when they are due: order deadline, or pay_by
--   w  list    feed of wins, one element a call: 42 bytes a win, ticket (26) and hash of the buyer (16)
--   r  hash    restock id -> units
--   x  zset    tombstones, scored by Redis's time
--   a  set     gateways that have re-applied their logs in this recovery
--   m  set     gateways that must
--
-- A note names its record: kind, ticket, version and claim epoch. Who claims a step's note renames it, for the ticket is
-- the claimer's then: a late clearing by the one before finds nothing. Kinds: o order, t transition, r release (its units
-- wait for the clearing). Two kinds change no hands and keep their names, so whoever has the record in a log may clear
-- them: m late money, s restock (its units wait as well).
--
-- One name stays in o for good, beyond every time: a set of less than 128 would be kept as a list that each change walks
-- through, and one so long is no entry of such a list.
--
-- Units, at all times: ini + res = av + live + ret + sold.
local S, T, B, O, D, W, R, X = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]

local STAYS = string.rep('~', 65)

-- Fields of a packed ticket.
local STATUS, VERSION, QUANTITY, BUYER, WON, DEADLINE, UPDATED, KEY, BODY, OWNER, EPOCH, ITEM, ATTRIBUTES, PAY_WINDOW,
  ORDER_ID, PAY_BY, PAYMENT_ID, REASON, CREATED, REFUNDS, REFUNDS_EVER =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21

-- Statuses, one letter each: queued, awaiting payment, paid, cancelled, expired, rejected, dropped, failed.
local LIVE = { q = true, a = true }
local RELEASED = { c = true, e = true, r = true, d = true, f = true }

-- Redis's time in ms: the only clock that claims go by. Generations are numbered by it too, so that one that follows the
-- loss of everything is still above all before.
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function note_kind(status)
  if status == 'q' then return 'o' end
  return RELEASED[status] and 'r' or 't'
end

-- The note of a ticket's newest record.
local function note(id, t)
  local name = note_kind(t[STATUS]) .. id .. ':' .. t[VERSION] .. ':' .. t[EPOCH]
  return RELEASED[t[STATUS]] and name .. ':' .. t[QUANTITY] or name
end

-- Whether the newest record of a ticket is not known to be in a log yet.
local function pending(id, t)
  return redis.call('ZSCORE', O, note(id, t)) and 1 or 0
end

-- Whether the nth late money of a ticket is not known to be in a log yet.
local function money_pending(id, nth)
  return redis.call('ZSCORE', O, 'm' .. id .. ':' .. nth .. ':0') and 1 or 0
end

-- Why the sale takes no orders and no transitions, and tells nothing, or nothing. Whoever names no generation takes any.
local function refused(gen)
  local m = redis.call('HMGET', S, 'gen', 'paused')
  if not m[1] then return 'nosale' end
  if m[2] ~= '' then return 'paused' end
  if gen ~= '' and m[1] ~= gen then return 'gen' end
end

-- Tells the gateways how the sale stands and which tickets changed. The count lets them see what they missed.
local function publish(channel, sale, tickets)
  local n = redis.call('HINCRBY', S, 'n', 1)
  local m = redis.call('HMGET', S, 'v', 'av', 'ep', 'gen', 'paused')
  redis.call('PUBLISH', channel, cmsgpack.pack({ sale, n, tonumber(m[1]), m[2], tonumber(m[3]), tonumber(m[4]),
    m[5], redis.call('LLEN', W), table.concat(tickets or {}) }))
end

-- Units come back: the epoch rises when the stock leaves 0. Answers whether it did.
local function bring_back(units)
  local m = redis.call('HMGET', S, 'av', 'ret')
  local av = tonumber(m[1])
  redis.call('HSET', S, 'av', av + units, 'ret', tonumber(m[2]) - units)
  if av <= 0 and av + units > 0 then
    redis.call('HINCRBY', S, 'ep', 1)
    return true
  end
end
