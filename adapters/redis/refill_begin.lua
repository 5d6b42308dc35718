-- Begin to fill an emptied Redis. KEYS[1] feed   KEYS[2] the refill's token   ARGV[1] a new token
-- Answers 0 when there is nothing to refill: the feed has an end.
if redis.call('TYPE', KEYS[1]).ok == 'stream' then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' and info[i + 1] ~= '0-0' then
      return 0
    end
  end
end
redis.call('SET', KEYS[2], ARGV[1])
return 1
