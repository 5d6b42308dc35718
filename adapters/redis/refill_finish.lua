-- Let the feed go on behind a position. KEYS[1] the refill's token   KEYS[2] feed   ARGV[1] token   ARGV[2] position
-- Answers 0 when another refill has begun or Redis was emptied once more. An entry that is deleted at once is the
-- one way to set the end of a stream that does not exist.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if redis.call('TYPE', KEYS[2]).ok ~= 'stream' then
  redis.call('DEL', KEYS[2])
end
redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'from', ARGV[2], 'events', '[]')
redis.call('XDEL', KEYS[2], ARGV[2] .. '-0')
redis.call('DEL', KEYS[1])
return 1
