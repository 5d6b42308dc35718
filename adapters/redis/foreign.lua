-- Remove what stands in the feed beyond the log's end, if none of it is what a relay writes.
-- KEYS[1] feed   ARGV[1] the log's last position
-- Answers how many entries were removed; 0 when there are none, or one that a relay has written: then the feed is
-- another log's. What the feed ends with afterwards is the last entry that is left.
local feed = KEYS[1]
if redis.call('TYPE', feed).ok ~= 'stream' then
  return 0
end
local beyond = '(' .. ARGV[1] .. '-18446744073709551615'
for _, entry in ipairs(redis.call('XRANGE', feed, beyond, '+', 'COUNT', 1000)) do
  local from, events = false, false
  for i = 1, #entry[2], 2 do
    from = from or entry[2][i] == 'from'
    events = events or entry[2][i] == 'events'
  end
  if from and events then
    return 0
  end
end
if #redis.call('XRANGE', feed, beyond, '+', 'COUNT', 1) == 0 then
  return 0
end
return rebuild_without_beyond(feed, ARGV[1])
