-- look.lua: a sale as it stands, and how long its feed of wins is at that very moment. Writes nothing.
--
-- keys   s t b o d w
-- args   fields of s
-- reply  {{value or nothing …}, elements of the feed}
-- keeps  whoever reads so many elements knows every winner that the counters tell of
return { redis.call('HMGET', S, unpack(ARGV)), redis.call('LLEN', W) }
