<?php // `/slow` answers after 1 s.
if ($_SERVER['REQUEST_URI'] === '/slow') {
    sleep(1);
}
header('Content-Length: 7');
echo "served\n";
