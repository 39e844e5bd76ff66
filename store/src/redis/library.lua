-- The steps of a store in Redis, each atomic. Keys begin with KEYS[1], `{nearbench:RUN}:`, and lie in one slot.
--
--   about     recovered (where the store was last known whole), seq, claimed, open, order, replicas, healer, healing,
--             tally (of the second under way: which, and as in `minute`), idempotency, details, slice, leaf (of records,
--             in milliseconds)
--   queue     one element a transfer, oldest first
--   claims    by id: seq, nonce, depth, elements            due       when each claim is taken back
--   lanes     every lane                                    lane:L    lease, until, used, reserved
--   attempts  by id: lane, head, rest, nonce, elements      open:L    the ids of a lane's
--   results   a stream of rows                              settled:N who settled what, lately
--   pushes    the last number and answer of each client     workers, measured, meta, imported, imports, withdrawn
--   minute    by second: how many were accepted, finalized and failed; by ten seconds and bucket: latencies
--
-- Of transfers with records (records.lua):
--
--   live      by id: record and details, while not final    r:S:N    final ones of slice S, by id; slices: how many
--   leaves    by the number of its first birth              d:L      what was accepted in leaf L: id, final details
--   counts    by state, born, last (its time)               t:H      ids in transaction H
--   spent     day and sum of each client
--
-- ARGV[1] is the run_id of the server that the client is connected to, ARGV[2] the time in microseconds where a test sets
-- it. Every answer begins with the sequence before the step and after it. An element is a byte with the length of its
-- result record, and its highest bit where a client submitted it, that record, which begins with the transfer's id, and the
-- payment; nothing else of it is looked at here. Nonces are decimal texts: Lua's numbers have 53 bits.

-- While the library is loaded there is nothing to call yet.
local function call(...) return redis.call(...) end

-- Arguments of one call, at most: Lua's stack is not endless.
local CHUNK = 4000
-- Who settled what is remembered for at least this long, in microseconds.
local MEMORY = 600000000
-- A recovery moves the sequence past whatever was lost.
local LEAP = 1000000000

local function begin(keys, argv)
    local at = keys[1]
    local about = call('HMGET', at .. 'about', 'recovered', 'seq', 'claimed', 'open')
    local now = tonumber(argv[2])
    if not now then
        local time = call('TIME')
        now = time[1] * 1000000 + time[2]
    end
    local seq = tonumber(about[2] or 0)
    return {
        at = at, now = now, run = argv[1], recovered = about[1], before = seq, seq = seq,
        claimed = tonumber(about[3] or 0), open = tonumber(about[4] or 0), changed = false,
    }
end

local function done(s, ...)
    if s.moved then
        for state, by in pairs(s.moved) do call('HINCRBY', s.at .. 'counts', state, by) end
    end
    if s.changed then
        s.seq = s.seq + 1
        if s.tally then
            call('HSET', s.at .. 'about', 'seq', s.seq, 'claimed', s.claimed, 'open', s.open, 'tally', s.tally)
        else
            call('HSET', s.at .. 'about', 'seq', s.seq, 'claimed', s.claimed, 'open', s.open)
        end
    end
    return {s.before, s.seq, ...}
end

-- Where this is: another process, or another history of the data, is another place.
local function place(s)
    return s.run .. ':' .. string.match(call('INFO', 'replication'), 'master_replid:(%w+)')
end

local function whole(s)
    return s.recovered and s.recovered ~= '' and s.recovered == place(s)
end

local function below(a, b)
    if #a ~= #b then return #a < #b end
    return a < b
end

local function leb(n)
    local out = ''
    while n >= 128 do
        out = out .. string.char(128 + n % 128)
        n = math.floor(n / 128)
    end
    return out .. string.char(n)
end

-- Whether what an element transfers has a record of its own, and the length of its result record.
local function has_record(element) return string.byte(element) >= 128 end
local function length(element) return string.byte(element) % 128 end

local function any_has_record(elements, from)
    local byte = string.byte
    for i = from, #elements do
        if byte(elements[i]) >= 128 then return true end
    end
    return false
end

local function records(elements)
    local out, byte, sub = {leb(#elements)}, string.byte, string.sub
    for i = 1, #elements do
        local element = elements[i]
        out[i + 1] = sub(element, 2, 1 + byte(element) % 128)
    end
    return table.concat(out)
end

local function append(command, key, list)
    for from = 1, #list, CHUNK do
        call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
    end
end

-- Those that were not found on chain by a recovery.
local function without_imported(s, elements)
    local imported = s.at .. 'imported'
    if #elements == 0 or call('EXISTS', imported) == 0 then return elements end
    local kept = {}
    for i = 1, #elements do
        if call('HEXISTS', imported, string.sub(elements[i], 2, 17)) == 0 then kept[#kept + 1] = elements[i] end
    end
    return kept
end

-- The same of those that are new here. Of what was found before anybody knew its record, the result is complete now.
local function not_paid_yet(s, elements)
    local imported, fresh = s.at .. 'imported', {}
    for i = 1, #elements do
        local id = string.sub(elements[i], 2, 17)
        local result = call('HGET', imported, id)
        if not result then
            fresh[#fresh + 1] = elements[i]
        elseif result ~= '' then
            call('XADD', s.at .. 'results', '*', 'row', result .. records({elements[i]}))
            call('HSET', imported, id, '')
        end
    end
    return fresh
end

local function put_back(s, elements)
    elements = without_imported(s, elements)
    if #elements == 0 then return end
    local queue = s.at .. 'queue'
    local empty = call('EXISTS', queue) == 0
    local reversed = {}
    for i = #elements, 1, -1 do reversed[#reversed + 1] = elements[i] end
    append('LPUSH', queue, reversed)
    if empty then call('PUBLISH', s.at .. 'work', '') end
    s.changed = true
end

local function rest(packed, from)
    local out = {}
    for i = from, #packed do out[#out + 1] = packed[i] end
    return out
end

-- Puts claims back, the oldest at the very head.
local function take_back(s, ids)
    local claims = {}
    for _, id in ipairs(ids) do
        local packed = call('HGET', s.at .. 'claims', id)
        if packed then claims[#claims + 1] = cmsgpack.unpack(packed) end
        call('HDEL', s.at .. 'claims', id)
        call('ZREM', s.at .. 'due', id)
    end
    table.sort(claims, function(a, b) return a[1] > b[1] end)
    for _, claim in ipairs(claims) do
        local elements = rest(claim, 4)
        s.claimed = s.claimed - #elements
        s.changed = true
        put_back(s, elements)
    end
end

local function reap(s)
    local first = call('ZRANGE', s.at .. 'due', 0, 0, 'WITHSCORES')
    if first[1] and tonumber(first[2]) <= s.now then
        take_back(s, call('ZRANGEBYSCORE', s.at .. 'due', '-inf', s.now))
    end
end

-- The lane's fields, where this lease holds it.
local function held(s, lane, lease)
    local fields = call('HMGET', s.at .. 'lane:' .. lane, 'lease', 'until', 'used', 'reserved')
    if fields[1] ~= lease or tonumber(fields[2]) <= s.now then return nil end
    return fields
end

local function raise(s, lane, field, floor)
    local key = s.at .. 'lane:' .. lane
    if below(call('HGET', key, field) or '0', floor) then
        call('HSET', key, field, floor)
        s.changed = true
    end
end

local function open_attempts(s, lane)
    local open = {}
    for _, id in ipairs(call('SMEMBERS', s.at .. 'open:' .. lane)) do
        local a = cmsgpack.unpack(call('HGET', s.at .. 'attempts', id))
        open[#open + 1] = {id, a[2], a[3], rest(a, 5)}
    end
    return open
end

-- Remembered in two hashes by turns, each for as long as MEMORY and then thrown away whole.
local function remember(s, id, token)
    local turn = math.floor(s.now / MEMORY)
    local key = s.at .. 'settled:' .. turn % 2
    if call('HGET', key, 'turn') ~= tostring(turn) then
        call('UNLINK', key)
        call('HSET', key, 'turn', tostring(turn))
    end
    call('HSET', key, id, token)
end

-- What shrinks the store, or costs nothing, may run where memory is used up.
local function register(name, step, flags)
    redis.register_function{function_name = '@_' .. name, callback = step, flags = flags}
end
local FULL = {'allow-oom'}

-- Whether a client's asking of this number was answered before, and what; of an earlier number nobody waits for the answer.
local function answered(s, client, number)
    local last = call('HGET', s.at .. 'pushes', client)
    if not last then return false end
    local known, answer = string.match(last, '^(%d+):(.*)$')
    if below(known, number) then return false end
    return true, known == number and answer or nil
end

--@ records.lua

-- count, then pairs of how many and how deep the queue may become; then the elements of all.
local function push(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    local client, number, groups = argv[3], argv[4], tonumber(argv[5])
    local again, answer = answered(s, client, number)
    if again then return done(s, 'OK', answer or '') end
    if not whole(s) then return done(s, 'RESTORED') end
    local queue = s.at .. 'queue'
    local depth = call('LLEN', queue)
    local was = depth
    local filtered = call('EXISTS', s.at .. 'imported') == 1
    local from, taken = 6 + 2 * groups, {}
    for group = 0, groups - 1 do
        local count, most = tonumber(argv[6 + 2 * group]), tonumber(argv[7 + 2 * group])
        local take = math.max(0, math.min(count, most - depth))
        taken[#taken + 1] = take
        if filtered then
            local fresh = not_paid_yet(s, {unpack(argv, from, from + take - 1)})
            append('RPUSH', queue, fresh)
            depth = depth + #fresh
        else
            for at = from, from + take - 1, CHUNK do
                call('RPUSH', queue, unpack(argv, at, math.min(at + CHUNK - 1, from + take - 1)))
            end
            depth = depth + take
        end
        from = from + count
    end
    if was == 0 and depth > 0 then call('PUBLISH', s.at .. 'work', '') end
    if depth > was then tally(s, 1, depth - was) end
    answer = table.concat(taken, ',')
    call('HSET', s.at .. 'pushes', client, number .. ':' .. answer)
    return done(s, 'OK', answer)
end

local function acquire(keys, argv)
    local s = begin(keys, argv)
    local lane, lease, ttl, healer = argv[3], argv[4], tonumber(argv[5]), argv[6]
    local key = s.at .. 'lane:' .. lane
    local fields = call('HMGET', key, 'lease', 'until', 'reserved')
    if healer ~= '' then
        local h = call('HMGET', s.at .. 'about', 'healer', 'healing')
        if h[1] ~= healer or tonumber(h[2]) <= s.now then return done(s, 'HEALER') end
    elseif fields[1] and fields[1] ~= '' and fields[1] ~= lease and tonumber(fields[2]) > s.now then
        return done(s, 'HELD', tonumber(fields[2]) - s.now)
    end
    s.changed = true
    call('SADD', s.at .. 'lanes', lane)
    call('HSET', key, 'lease', lease, 'until', s.now + ttl)
    return done(s, 'OK', fields[3] or '0', open_attempts(s, lane))
end

local function renew(keys, argv)
    local s = begin(keys, argv)
    if not held(s, argv[3], argv[4]) then return done(s, 'LEASE') end
    s.changed = true
    call('HSET', s.at .. 'lane:' .. argv[3], 'until', s.now + argv[5])
    return done(s, 'OK')
end

local function release_lane(keys, argv)
    local s = begin(keys, argv)
    if not held(s, argv[3], argv[4]) then return done(s, 'LEASE') end
    s.changed = true
    call('HSET', s.at .. 'lane:' .. argv[3], 'lease', '', 'until', 0)
    return done(s, 'OK')
end

local function claim(keys, argv)
    local s = begin(keys, argv)
    local lane, id = argv[3], argv[5]
    local min, max, divisor, most = tonumber(argv[6]), tonumber(argv[7]), tonumber(argv[8]), tonumber(argv[9])
    if not whole(s) then return done(s, 'RESTORED') end
    reap(s)
    if not held(s, lane, argv[4]) then return done(s, 'LEASE') end
    local known = call('HGET', s.at .. 'claims', id)
    if known then
        local c = cmsgpack.unpack(known)
        return done(s, 'OK', c[2], c[3], rest(c, 4))
    end
    local depth = call('LLEN', s.at .. 'queue')
    local take = math.max(math.floor(depth / math.max(divisor, 1)), min)
    take = math.min(take, max, most, depth)
    if take == 0 then return done(s, 'NONE', depth) end
    s.changed = true
    local key = s.at .. 'lane:' .. lane
    call('HINCRBY', key, 'reserved', 1)
    local nonce = call('HGET', key, 'reserved')
    local elements = call('LPOP', s.at .. 'queue', take)
    call('HSET', s.at .. 'claims', id, cmsgpack.pack({s.seq, nonce, depth, unpack(elements, 1, math.min(take, CHUNK))}))
    if take > CHUNK then
        local packed = {s.seq, nonce, depth}
        for i = 1, take do packed[i + 3] = elements[i] end
        call('HSET', s.at .. 'claims', id, cmsgpack.pack(packed))
    end
    call('ZADD', s.at .. 'due', s.now + argv[10], id)
    s.claimed = s.claimed + take
    return done(s, 'OK', nonce, depth, elements)
end

local function reserve(keys, argv)
    local s = begin(keys, argv)
    if not held(s, argv[3], argv[4]) then return done(s, 'LEASE') end
    s.changed = true
    local key = s.at .. 'lane:' .. argv[3]
    call('HINCRBY', key, 'reserved', argv[5])
    return done(s, 'OK', call('HGET', key, 'reserved'))
end

local function raise_lane(keys, argv)
    local s = begin(keys, argv)
    if not held(s, argv[3], argv[4]) then return done(s, 'LEASE') end
    raise(s, argv[3], 'reserved', argv[5])
    return done(s, 'OK')
end

local function release(keys, argv)
    local s = begin(keys, argv)
    reap(s)
    if call('HEXISTS', s.at .. 'claims', argv[3]) == 0 then return done(s, 'CLAIM') end
    take_back(s, {argv[3]})
    return done(s, 'OK')
end

-- What carries no transfers may be stored in a store that is not whole: a recovery fences lanes.
local function commit(keys, argv)
    local s = begin(keys, argv)
    local lane, claimed, id, nonce, head = argv[3], argv[5], argv[6], argv[7], argv[8]
    s.changed = true
    if claimed ~= '' and not whole(s) then return done(s, 'RESTORED') end
    reap(s)
    local fields = held(s, lane, argv[4])
    if not fields then return done(s, 'LEASE') end
    -- An odd one carries transfers with records.
    local odd = string.sub(id, 1, 7) .. string.char(string.byte(id, 8) + 1)
    local known = call('HMGET', s.at .. 'attempts', id, odd)
    local made = known[1] or known[2]
    if made and cmsgpack.unpack(made)[2] == head then return done(s, 'OK', known[2] and 1 or 0) end
    local used = fields[3] or '0'
    if not below(used, nonce) then return done(s, 'NONCE', used) end
    local attempt, recorded = {lane, head, argv[9], nonce}, 0
    if claimed ~= '' then
        local packed = call('HGET', s.at .. 'claims', claimed)
        if not packed then return done(s, 'CLAIM') end
        local c = cmsgpack.unpack(packed)
        for i = 4, #c do attempt[i + 1] = c[i] end
        s.claimed = s.claimed - (#c - 3)
        s.open = s.open + (#c - 3)
        call('HDEL', s.at .. 'claims', claimed)
        call('ZREM', s.at .. 'due', claimed)
        if any_has_record(c, 4) then
            sign_records(s, rest(c, 4), string.sub(head, 1, 32))
            id, recorded = odd, 1
        end
    end
    local key = s.at .. 'lane:' .. lane
    if below(fields[4] or '0', nonce) then
        call('HSET', key, 'used', nonce, 'reserved', nonce)
    else
        call('HSET', key, 'used', nonce)
    end
    call('HSET', s.at .. 'attempts', id, cmsgpack.pack(attempt))
    call('SADD', s.at .. 'open:' .. lane, id)
    return done(s, 'OK', recorded)
end

-- Attempt, token, how its result goes on, which of its transfers go back (`all`, none, or all but one), and in which state
-- and with what error the others end.
local function settle(keys, argv)
    local s = begin(keys, argv)
    local id, token, back, state = argv[3], argv[4], argv[6], tonumber(argv[7])
    s.changed = true
    local packed = call('HGET', s.at .. 'attempts', id)
    if not packed then
        for turn = 0, 1 do
            if call('HGET', s.at .. 'settled:' .. turn, id) == token then return done(s, 'OK') end
        end
        return done(s, 'OPEN')
    end
    local a = cmsgpack.unpack(packed)
    local elements = rest(a, 5)
    call('XADD', s.at .. 'results', '*', 'row', '\0' .. a[2] .. argv[5] .. records(elements))
    call('HDEL', s.at .. 'attempts', id)
    call('SREM', s.at .. 'open:' .. a[1], id)
    s.open = s.open - #elements
    remember(s, id, token)
    local ended = #elements
    if back == 'all' then ended = 0 elseif back ~= '' then ended = tonumber(back) < #elements and 1 or 0 end
    if ended > 0 and state == FINALIZED then tally(s, 2, ended) end
    if ended > 0 and state == FAILED then tally(s, 3, ended) end
    if string.byte(id, 8) % 2 == 1 then
        settle_records(s, elements, string.sub(a[2], 1, 32), back, state, tonumber(argv[8]))
    end
    if back ~= '' then
        local fated = tonumber(back)
        local again = {}
        for i = 1, #elements do
            if i - 1 ~= fated then again[#again + 1] = elements[i] end
        end
        put_back(s, again)
    end
    return done(s, 'OK')
end

local function cancel_queued(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    local last = call('HMGET', s.at .. 'withdrawn', 'token', 'elements')
    if last[1] == argv[3] then return done(s, 'OK', cmsgpack.unpack(last[2])) end
    reap(s)
    local elements = call('LPOP', s.at .. 'queue', argv[4]) or {}
    if #elements == 0 then
        call('DEL', s.at .. 'withdrawn')
    else
        call('XADD', s.at .. 'results', '*', 'row', '\1' .. records(elements))
        cancel_records(s, elements)
        call('HSET', s.at .. 'withdrawn', 'token', argv[3], 'elements', cmsgpack.pack(elements))
    end
    return done(s, 'OK', elements)
end

local function depth(keys, argv)
    local s = begin(keys, argv)
    reap(s)
    return done(s, 'OK', call('LLEN', s.at .. 'queue'), s.claimed, s.open)
end

-- Claims and attempts with their elements, in the order of their making.
local function unsettled(keys, argv)
    local s = begin(keys, argv)
    reap(s)
    local claims, open = {}, {}
    for _, packed in ipairs(call('HVALS', s.at .. 'claims')) do claims[#claims + 1] = cmsgpack.unpack(packed) end
    table.sort(claims, function(a, b) return a[1] < b[1] end)
    for i, c in ipairs(claims) do claims[i] = rest(c, 4) end
    for _, packed in ipairs(call('HVALS', s.at .. 'attempts')) do open[#open + 1] = cmsgpack.unpack(packed) end
    table.sort(open, function(a, b)
        if a[4] == b[4] then return a[1] < b[1] end
        return below(a[4], b[4])
    end)
    for i, a in ipairs(open) do open[i] = rest(a, 5) end
    return done(s, 'OK', claims, open)
end

local function beat(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    call('HSET', s.at .. 'workers', argv[3], s.now + argv[4])
    call('HSET', s.at .. 'measured', argv[3], argv[5])
    local workers, leases = {}, {}
    local all = call('HGETALL', s.at .. 'workers')
    for i = 1, #all, 2 do
        if tonumber(all[i + 1]) > s.now then
            workers[#workers + 1] = all[i]
        else
            call('HDEL', s.at .. 'workers', all[i])
        end
    end
    for _, lane in ipairs(call('SMEMBERS', s.at .. 'lanes')) do
        local fields = call('HMGET', s.at .. 'lane:' .. lane, 'lease', 'until')
        if fields[1] and fields[1] ~= '' and tonumber(fields[2]) > s.now then
            leases[#leases + 1] = {lane, tonumber(fields[2]) - s.now}
        end
    end
    return done(s, 'OK', call('HGET', s.at .. 'about', 'order') or '', workers, leases)
end

local function leave(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    call('HDEL', s.at .. 'workers', argv[3])
    return done(s, 'OK')
end

local function order(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    call('HSET', s.at .. 'about', 'order', argv[3])
    return done(s, 'OK')
end

local function measured(keys, argv)
    local s = begin(keys, argv)
    return done(s, 'OK', call('HGETALL', s.at .. 'measured'))
end

local function seed(keys, argv)
    local s = begin(keys, argv)
    for i = 3, #argv, 2 do
        call('SADD', s.at .. 'lanes', argv[i])
        local fields = call('HMGET', s.at .. 'lane:' .. argv[i], 'lease', 'until')
        if not (fields[1] and fields[1] ~= '' and tonumber(fields[2]) > s.now) then
            raise(s, argv[i], 'reserved', argv[i + 1])
        end
    end
    s.changed = true
    return done(s, 'OK')
end

local function reset(keys, argv)
    local s = begin(keys, argv)
    local lane, key = argv[3], s.at .. 'lane:' .. argv[3]
    local fields = call('HMGET', key, 'lease', 'until')
    if fields[1] and fields[1] ~= '' and tonumber(fields[2]) > s.now then
        return done(s, 'HELD', tonumber(fields[2]) - s.now)
    end
    local open = call('SCARD', s.at .. 'open:' .. lane)
    if open > 0 then return done(s, 'BUSY', open) end
    s.changed = true
    call('SADD', s.at .. 'lanes', lane)
    call('HSET', key, 'used', argv[4], 'reserved', argv[4])
    return done(s, 'OK')
end

local function put_meta(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    append('HSET', s.at .. 'meta', {unpack(argv, 3)})
    return done(s, 'OK')
end

local function meta(keys, argv)
    local s = begin(keys, argv)
    return done(s, 'OK', call('HGET', s.at .. 'meta', argv[3]))
end

-- Makes the store, where there is none.
local function create(keys, argv)
    local s = begin(keys, argv)
    if call('HSETNX', s.at .. 'about', 'version', argv[3]) == 0 then return done(s, 'EXISTS') end
    s.changed = true
    call('HSET', s.at .. 'about', 'recovered', place(s), 'replicas', argv[4], 'idempotency', argv[5], 'details', argv[6],
        'slice', argv[7], 'leaf', argv[8])
    return done(s, 'OK')
end

local function open(keys, argv)
    local s = begin(keys, argv)
    local about = call('HMGET', s.at .. 'about', 'version', 'replicas')
    return done(s, 'OK', about[1] or '', about[2] or '0', whole(s) and 1 or 0)
end

-- A client saw the sequence at `argv[3]`, and later, before a step of its own, at `argv[4]`. A recovery that began since
-- then has leapt.
local function suspect(keys, argv)
    local s = begin(keys, argv)
    local floor, behind = tonumber(argv[3]), tonumber(argv[4])
    if s.seq < behind + LEAP then
        s.seq = math.max(s.seq, floor)
        s.changed = true
        call('HSET', s.at .. 'about', 'recovered', '')
    end
    return done(s, 'OK')
end

local function recover(keys, argv)
    local s = begin(keys, argv)
    if whole(s) then return done(s, 'WHOLE') end
    local h = call('HMGET', s.at .. 'about', 'healer', 'healing')
    local other = h[1] ~= argv[3]
    if other and h[1] and h[1] ~= '' and tonumber(h[2]) > s.now then
        return done(s, 'HELD', tonumber(h[2]) - s.now)
    end
    s.changed = true
    if other then
        s.seq = s.seq + LEAP
        take_back(s, call('HKEYS', s.at .. 'claims'))
    end
    call('HSET', s.at .. 'about', 'healer', argv[3], 'healing', s.now + argv[4], 'replicas', argv[5])
    return done(s, 'OK')
end

local function heals(s, healer)
    local h = call('HMGET', s.at .. 'about', 'healer', 'healing')
    return h[1] == healer and tonumber(h[2]) > s.now
end

local function recovered(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    if not heals(s, argv[3]) then return done(s, whole(s) and 'OK' or 'HEALER') end
    -- They went where all went.
    for i, field in ipairs({'idempotency', 'details', 'slice', 'leaf'}) do
        call('HSETNX', s.at .. 'about', field, argv[5 + i])
    end
    call('HSET', s.at .. 'about', 'version', argv[4], 'recovered', place(s), 'replicas', argv[5], 'healer', '', 'healing', 0)
    return done(s, 'OK')
end

local function list_lanes(keys, argv)
    local s = begin(keys, argv)
    local lanes = {}
    for _, lane in ipairs(call('SMEMBERS', s.at .. 'lanes')) do
        local fields = call('HMGET', s.at .. 'lane:' .. lane, 'lease', 'until', 'reserved', 'used')
        local left = 0
        if fields[1] and fields[1] ~= '' then left = math.max(0, tonumber(fields[2]) - s.now) end
        lanes[#lanes + 1] = {lane, fields[4] or '0', fields[3] or '0', left, open_attempts(s, lane)}
    end
    return done(s, 'OK', lanes)
end

-- The ids of transfers that were found on chain: what comes back of them is dropped from now on.
local function note_imported(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    if not heals(s, argv[3]) then return done(s, 'HEALER') end
    for i = 4, #argv do call('HSETNX', s.at .. 'imported', argv[i], '') end
    return done(s, 'OK')
end

-- One transaction: healer, lane, nonce, hash; how many results, and these; how many elements of the queue, and these; then of
-- those that came to their end how many, and these: ids, and state and error in two bytes; all ids in one text; then of the
-- transfers that nobody here knows their ids, and the results that their records will complete.
local function import(keys, argv)
    local s = begin(keys, argv)
    s.changed = true
    if not heals(s, argv[3]) then return done(s, 'HEALER') end
    local lane = argv[4]
    call('SADD', s.at .. 'lanes', lane)
    raise(s, lane, 'reserved', argv[5])
    raise(s, lane, 'used', argv[5])
    for _, id in ipairs(call('SMEMBERS', s.at .. 'open:' .. lane)) do
        local a = cmsgpack.unpack(call('HGET', s.at .. 'attempts', id))
        if string.sub(a[2], 1, 32) == argv[6] then return done(s, 'KNOWN') end
    end
    if call('SADD', s.at .. 'imports', argv[6]) == 0 then return done(s, 'KNOWN') end
    local queued = 8 + tonumber(argv[7])
    for i = 8, queued - 1 do call('XADD', s.at .. 'results', '*', 'row', argv[i]) end
    local ended = queued + 1 + tonumber(argv[queued])
    for i = queued + 1, ended - 1 do call('LREM', s.at .. 'queue', 1, argv[i]) end
    local unknown = ended + 2 + 2 * tonumber(argv[ended])
    import_records(s, argv[6], argv[unknown - 1], {unpack(argv, ended + 1, unknown - 2)})
    for i = unknown, #argv, 2 do call('HSET', s.at .. 'imported', argv[i], argv[i + 1]) end
    return done(s, 'OK')
end

local function lanes_of(keys, argv)
    local s = begin(keys, argv)
    return done(s, 'OK', call('SMEMBERS', s.at .. 'lanes'))
end

register('push', push, {})
register('acquire', acquire, FULL)
register('renew', renew, FULL)
register('release_lane', release_lane, FULL)
register('claim', claim, FULL)
register('reserve', reserve, FULL)
register('raise', raise_lane, FULL)
register('release', release, FULL)
register('commit', commit, FULL)
register('settle', settle, FULL)
register('cancel_queued', cancel_queued, FULL)
register('depth', depth, FULL)
register('unsettled', unsettled, FULL)
register('beat', beat, FULL)
register('leave', leave, FULL)
register('order', order, FULL)
register('measured', measured, FULL)
register('seed', seed, FULL)
register('reset', reset, FULL)
register('put_meta', put_meta, {})
register('meta', meta, FULL)
register('create', create, {})
register('open', open, FULL)
register('suspect', suspect, FULL)
register('recover', recover, FULL)
register('recovered', recovered, FULL)
register('list_lanes', list_lanes, FULL)
register('note_imported', note_imported, FULL)
register('import', import, FULL)
register('lanes_of', lanes_of, FULL)
