-- KEYS[1] a stream. The greatest id it ever had, also when its entries are gone; 0-0 when it does not exist.
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then
  return '0-0'
end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then
    return info[i + 1]
  end
end
return redis.error_reply('XINFO STREAM names no last-generated-id')
