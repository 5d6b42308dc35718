-- Publish one batch of the log: all of it, or nothing.
--
-- KEYS[1] feed   KEYS[2] control   KEYS[3..] work streams
-- ARGV[1] the position at which the feed has to end   ARGV[2] the oldest position to keep in the feed
-- ARGV[3] how many entries to keep in control   ARGV[4] the batch's last position
-- ARGV[5..] entries: index of the key, id, number of field and value arguments, these arguments
-- Answers {-1} when the feed ends elsewhere (nothing was written), else {how many dispatches were there already, how
-- many foreign entries were removed, how many streams were made anew for that}.
--
-- The feed's entries stand last in ARGV: its end moves only after everything else is written, so that a batch
-- that was cut short by a crash is published again as a whole. Entries of the other streams whose id is not
-- greater than the last one there are left alone.
--
-- No stream may have entries beyond the batch: what stands there is not ours (somebody has added it with an id of its own),
-- or will be published again, as the log goes on there. Left alone, it would keep everything with a smaller id out.
local feed = KEYS[1]
local last = '0'
if redis.call('TYPE', feed).ok == 'stream' then
  local info = redis.call('XINFO', 'STREAM', feed)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = string.match(info[i + 1], '^%d+')
      break
    end
  end
end
if last ~= ARGV[1] then
  return {-1}
end

local finish = ARGV[4]
local present, removed, rebuilt = 0, 0, 0

local i = 5
while i <= #ARGV do
  local key = KEYS[tonumber(ARGV[i])]
  local count = tonumber(ARGV[i + 2])
  local added = redis.pcall('XADD', key, ARGV[i + 1], unpack(ARGV, i + 3, i + 2 + count))
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'WRONGTYPE', 1, true) then
      -- The name is ours and what stands there is not: nobody could ever read work from it.
      redis.call('DEL', key)
      redis.call('XADD', key, ARGV[i + 1], unpack(ARGV, i + 3, i + 2 + count))
    elseif string.find(added.err, 'equal or smaller', 1, true) then
      if is_beyond(field(redis.call('XINFO', 'STREAM', key), 'last-generated-id'), finish) then
        removed = removed + rebuild_without_beyond(key, finish)
        rebuilt = rebuilt + 1
        added = redis.pcall('XADD', key, ARGV[i + 1], unpack(ARGV, i + 3, i + 2 + count))
      end
      if type(added) == 'table' and added.err then
        present = present + 1
      end
    else
      return added
    end
  end
  i = i + 3 + count
end
redis.call('XTRIM', feed, 'MINID', '~', ARGV[2])
if redis.call('TYPE', KEYS[2]).ok == 'stream' then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', ARGV[3])
end
return {present, removed, rebuilt}
